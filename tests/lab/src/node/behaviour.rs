//! How the built-in echo server behaves: one table of behaviours, chosen by image name or by variables of the container.

use std::{collections::BTreeMap, time::Duration};

use aws_model::settings::duration;

/// A behaviour that can be asked for.
#[derive(Debug)]
pub struct Behaviour {
    /// Last part of the image's name, without its tag, that asks for it with the default setting.
    pub image: &'static str,
    /// The variable that asks for it.
    pub variable: &'static str,
    /// The setting that the image name stands for.
    default: &'static str,
    /// The variable with a setting, for `lab --help`.
    pub example: &'static str,
    /// What it does.
    pub effect: &'static str,
    set: fn(&mut Conduct, &str) -> Option<()>,
}

impl Behaviour {
    /// Every behaviour.
    pub const TABLE: &[Self] = &[
        Self {
            image: "slow-start",
            variable: "LAB_START_DELAY",
            default: "10s",
            example: "LAB_START_DELAY=10s",
            effect: "opens its ports only after this time",
            set: |conduct, text| duration(text).map(|d| conduct.start_delay = d),
        },
        Self {
            image: "failing-health",
            variable: "LAB_FAIL_PATHS",
            default: "/healthz",
            example: "LAB_FAIL_PATHS=/healthz,/x",
            effect: "answers 503 on these paths",
            set: |conduct, text| {
                let paths: Vec<_> = text.split(',').map(str::to_owned).collect();
                paths.iter().all(|p| p.starts_with('/')).then(|| conduct.failing_paths = paths)
            },
        },
        Self {
            image: "slow-response",
            variable: "LAB_RESPONSE_DELAY",
            default: "2s",
            example: "LAB_RESPONSE_DELAY=2s",
            effect: "waits before each answer",
            set: |conduct, text| duration(text).map(|d| conduct.response_delay = d),
        },
        Self {
            image: "tcp-echo",
            variable: "LAB_PROTOCOL",
            default: "tcp",
            example: "LAB_PROTOCOL=tcp",
            effect: "sends every byte back instead of speaking HTTP",
            set: |conduct, text| either(text, "tcp", "http").map(|raw| conduct.raw = raw),
        },
        Self {
            image: "proxy-protocol",
            variable: "LAB_PROXY_PROTOCOL",
            default: "v2",
            example: "LAB_PROXY_PROTOCOL=v2",
            effect: "requires a PROXY protocol v2 header and answers with the client that it names",
            set: |conduct, text| either(text, "v2", "off").map(|on| conduct.proxy_protocol = on),
        },
        Self {
            image: "short-lived",
            variable: "LAB_EXIT_AFTER",
            default: "5s",
            example: "LAB_EXIT_AFTER=5s",
            effect: "exits with status 1 after this time, and is restarted as the pod's restartPolicy says",
            set: |conduct, text| duration(text).map(|d| conduct.exit_after = Some(d)),
        },
        Self {
            image: "slow-stop",
            variable: "LAB_STOP_DELAY",
            default: "5s",
            example: "LAB_STOP_DELAY=5s",
            effect: "goes on accepting for this time after SIGTERM",
            set: |conduct, text| duration(text).map(|d| conduct.stop_delay = d),
        },
    ];
}

fn either(text: &str, yes: &str, no: &str) -> Option<bool> {
    (text == yes || text == no).then_some(text == yes)
}

/// How one container of the echo server behaves. Times are of the lab's clock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conduct {
    /// Wait before the ports open.
    pub start_delay: Duration,
    /// Paths that are answered with 503.
    pub failing_paths: Vec<String>,
    /// Wait before each answer.
    pub response_delay: Duration,
    /// Echo bytes instead of HTTP.
    pub raw: bool,
    /// Require a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Exit by itself after this time.
    pub exit_after: Option<Duration>,
    /// Go on accepting after SIGTERM for this time.
    pub stop_delay: Duration,
}

impl Conduct {
    /// What a container's image and environment ask for; variables win over the image's name. The error names the
    /// variable, its value and an example.
    pub fn of(image: &str, environment: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut conduct = Self::default();
        let name = short_name(image);
        for behaviour in Behaviour::TABLE {
            let setting = environment
                .get(behaviour.variable)
                .map(String::as_str)
                .or_else(|| (behaviour.image == name).then_some(behaviour.default));
            if let Some(text) = setting {
                (behaviour.set)(&mut conduct, text).ok_or_else(|| {
                    format!("{}=`{text}` is not understood; an example: {}", behaviour.variable, behaviour.example)
                })?;
            }
        }
        Ok(conduct)
    }
}

/// `registry:5000/path/name:tag@digest` -> `name`.
pub fn short_name(image: &str) -> &str {
    let path = image.split('@').next().unwrap_or(image);
    let last = path.rsplit('/').next().unwrap_or(path);
    last.split(':').next().unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_and_every_example_of_the_table_is_understood() {
        for behaviour in Behaviour::TABLE {
            let by_image = Conduct::of(behaviour.image, &BTreeMap::new()).expect(behaviour.image);
            assert_ne!(by_image, Conduct::default(), "{} changes nothing", behaviour.image);
            let (name, value) = behaviour.example.split_once('=').expect("NAME=value");
            assert_eq!(name, behaviour.variable);
            Conduct::of("any", &[(name.to_owned(), value.to_owned())].into()).expect(name);
        }
    }

    #[test]
    fn variable_wins_over_image_name_and_a_bad_one_is_named() {
        let environment = |value: &str| [("LAB_START_DELAY".to_owned(), value.to_owned())].into();
        let conduct = Conduct::of("registry:5000/x/slow-start:v1@sha256:00", &environment("3s")).expect("valid");
        assert_eq!(conduct.start_delay, Duration::from_secs(3));
        let error = Conduct::of("echo", &environment("soon")).expect_err("not a duration");
        assert!(error.contains("LAB_START_DELAY=`soon`"), "{error}");
    }

    #[test]
    fn short_name_drops_registry_tag_and_digest() {
        for (image, name) in [
            ("echo", "echo"),
            ("localhost:5000/echo", "echo"),
            ("registry.k8s.io/e2e/echo:1.0", "echo"),
            ("a/echo@sha256:abc", "echo"),
        ] {
            assert_eq!(short_name(image), name, "{image}");
        }
    }
}

//! Which programs the lab needs, from which pinned modules, and how each is told its version.

use std::path::{Path, PathBuf};

use ring::digest;

/// Version of Kubernetes, as in the pins of `tests/controlplane/kubernetes`.
const KUBERNETES: &str = "v1.36.3";

/// Programs that are built from one Go module of pins.
#[derive(Debug)]
pub(super) struct Family {
    /// Name of the directory in `tests/controlplane`.
    pub(super) name: &'static str,
    /// What is built.
    pub(super) programs: &'static [Program],
    /// The files of the module: name and content. They are part of this program, so it can build from anywhere.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Values stamped into variables, `-X` of the Go linker.
    stamps: &'static [(&'static str, &'static str)],
    /// A module whose directory holds custom resource definitions that the lab applies.
    pub(super) crds: Option<Crds>,
}

/// Custom resource definitions inside a Go module.
#[derive(Debug)]
pub(super) struct Crds {
    pub(super) module: &'static str,
    pub(super) directory: &'static str,
}

/// One program.
#[derive(Debug)]
pub(super) struct Program {
    /// Its file name.
    pub(super) name: &'static str,
    /// The Go package to build, as the module knows it.
    pub(super) package: &'static str,
    /// How a program of the user's is recognised as the needed version; without this, only the built one is used.
    pub(super) version: Option<Version>,
}

/// What a program of the needed version prints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version {
    pub(super) arguments: &'static [&'static str],
    pub(super) contains: &'static str,
}

const KUBERNETES_VERSION: Option<Version> = Some(Version { arguments: &["--version"], contains: "Kubernetes v1.36." });

macro_rules! module {
    ($dir:literal $(, $extra:literal)*) => {
        &[
            ("go.mod", include_str!(concat!("../../../controlplane/", $dir, "/go.mod"))),
            ("go.sum", include_str!(concat!("../../../controlplane/", $dir, "/go.sum"))),
            $(($extra, include_str!(concat!("../../../controlplane/", $dir, "/", $extra))),)*
        ]
    };
}

/// Every program of the lab, in the order in which they are built.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "etcd",
        programs: &[Program {
            name: "etcd",
            package: "go.etcd.io/etcd/server/v3",
            version: Some(Version { arguments: &["--version"], contains: "etcd Version: 3.6." }),
        }],
        files: module!("etcd"),
        stamps: &[],
        crds: None,
    },
    Family {
        name: "kubernetes",
        programs: &[
            Program {
                name: "kube-apiserver",
                package: "k8s.io/kubernetes/cmd/kube-apiserver",
                version: KUBERNETES_VERSION,
            },
            Program {
                name: "kube-controller-manager",
                package: "k8s.io/kubernetes/cmd/kube-controller-manager",
                version: KUBERNETES_VERSION,
            },
            Program {
                name: "kube-scheduler",
                package: "k8s.io/kubernetes/cmd/kube-scheduler",
                version: KUBERNETES_VERSION,
            },
            Program {
                name: "kubectl",
                package: "k8s.io/kubernetes/cmd/kubectl",
                version: Some(Version { arguments: &["version", "--client"], contains: "Client Version: v1.36." }),
            },
        ],
        files: module!("kubernetes"),
        stamps: &[
            // Without these the programs call themselves v0.0.0-master, which kubectl refuses to parse.
            ("k8s.io/component-base/version.gitVersion", KUBERNETES),
            ("k8s.io/component-base/version.gitMajor", "1"),
            ("k8s.io/component-base/version.gitMinor", "36"),
            ("k8s.io/component-base/version.gitCommit", "unknown"),
            ("k8s.io/component-base/version.gitTreeState", "clean"),
            ("k8s.io/component-base/version.buildDate", "1970-01-01T00:00:00Z"),
        ],
        crds: None,
    },
    Family {
        name: "helm",
        programs: &[Program {
            name: "helm",
            package: "helm.sh/helm/v4/cmd/helm",
            version: Some(Version { arguments: &["version", "--short"], contains: "v4." }),
        }],
        files: module!("helm"),
        stamps: &[("helm.sh/helm/v4/internal/version.version", "v4.3.1")],
        crds: None,
    },
    Family {
        name: "cert-manager",
        programs: &[Program { name: "cert-manager", package: ".", version: None }],
        files: module!("cert-manager", "main.go"),
        stamps: &[],
        crds: Some(Crds { module: "github.com/cert-manager/cert-manager", directory: "deploy/crds" }),
    },
];

impl Family {
    /// Identity of what would be built: pins, sources and flags.
    pub(super) fn key(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut add = |text: &str| {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        };
        add(std::env::consts::ARCH);
        self.files.iter().for_each(|(name, content)| {
            add(name);
            add(content);
        });
        self.programs.iter().for_each(|p| add(p.package));
        add(&self.linker_flags());
        hex(context.finish().as_ref())[..16].to_owned()
    }

    /// The value of `-ldflags`: no symbol tables, and the stamps.
    pub(super) fn linker_flags(&self) -> String {
        let stamps = self.stamps.iter().map(|(variable, value)| format!(" -X {variable}={value}"));
        std::iter::once("-s -w".to_owned()).chain(stamps).collect()
    }

    /// Where a cache entry keeps this family's custom resource definitions.
    pub(super) fn certificate_crds(&self, entry: Option<&Path>) -> Option<PathBuf> {
        self.crds.as_ref().and(entry).map(|dir| dir.join("crds"))
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_family_and_are_stable() {
        let keys: std::collections::BTreeSet<_> = FAMILIES.iter().map(Family::key).collect();
        assert_eq!(keys.len(), FAMILIES.len());
        assert_eq!(FAMILIES[0].key(), FAMILIES[0].key());
    }

    #[test]
    fn kubernetes_is_stamped_with_the_version_that_is_pinned() {
        let kubernetes = FAMILIES.iter().find(|f| f.name == "kubernetes").expect("in the table");
        let (_, go_mod) = kubernetes.files[0];
        assert!(go_mod.contains(&format!("k8s.io/kubernetes {KUBERNETES}")), "stamp and pin differ");
        assert!(kubernetes.linker_flags().contains("version.gitVersion=v1.36.3"));
    }
}

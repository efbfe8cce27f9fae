//! What EKS gives to the pods of a service account with a role: a web identity token and the variables that point to it.
//!
//! EKS's own admission webhook changes the pod's object. The lab's node changes only its own copy, so that `kubectl`
//! shows the pod as it was written; the container sees the same.

use k8s_openapi::api::core::v1::{
    Container, EnvVar, Pod, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};

/// Annotation of a service account that names its role.
pub const ROLE_ARN: &str = "eks.amazonaws.com/role-arn";

const VOLUME: &str = "aws-iam-token";
const DIRECTORY: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
const AUDIENCE: &str = "sts.amazonaws.com";
const SECONDS: i64 = 86_400;

/// The pod with token volume, mounts and variables for a role. A container that names a role itself is left alone.
pub fn inject(mut pod: Pod, role: &str, region: &str) -> Pod {
    let Some(spec) = &mut pod.spec else { return pod };
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    for container in containers.filter(|c| !names_a_role(c)) {
        let variables = [
            ("AWS_STS_REGIONAL_ENDPOINTS", "regional".to_owned()),
            ("AWS_DEFAULT_REGION", region.to_owned()),
            ("AWS_REGION", region.to_owned()),
            ("AWS_ROLE_ARN", role.to_owned()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", format!("{DIRECTORY}/token")),
        ];
        let environment = container.env.get_or_insert_default();
        for (name, value) in variables {
            if !environment.iter().any(|v| v.name == name) {
                environment.push(EnvVar { name: name.to_owned(), value: Some(value), value_from: None });
            }
        }
        container.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: DIRECTORY.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
    let token = ServiceAccountTokenProjection {
        audience: Some(AUDIENCE.to_owned()),
        expiration_seconds: Some(SECONDS),
        path: "token".to_owned(),
    };
    let source = VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() };
    spec.volumes.get_or_insert_default().push(Volume {
        name: VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource { sources: Some(vec![source]), ..ProjectedVolumeSource::default() }),
        ..Volume::default()
    });
    pod
}

fn names_a_role(container: &Container) -> bool {
    container.env.iter().flatten().any(|v| v.name == "AWS_ROLE_ARN" || v.name == "AWS_WEB_IDENTITY_TOKEN_FILE")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables(container: &Container) -> Vec<(&str, &str)> {
        let all = container.env.iter().flatten();
        all.map(|v| (v.name.as_str(), v.value.as_deref().unwrap_or_default())).collect()
    }

    #[test]
    fn containers_get_the_token_and_what_they_set_themselves_stays() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "plain"},
            {"name": "region", "env": [{"name": "AWS_REGION", "value": "eu-west-1"}]},
            {"name": "own", "env": [{"name": "AWS_ROLE_ARN", "value": "arn:own"}]},
        ]}});
        let pod = inject(serde_json::from_value(pod).expect("a pod"), "arn:role", "ap-northeast-2");
        let spec = pod.spec.expect("a spec");
        let [plain, region, own] = &spec.containers[..] else { panic!("three containers") };
        assert!(variables(plain).contains(&("AWS_ROLE_ARN", "arn:role")));
        assert!(
            variables(plain)
                .contains(&("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"))
        );
        assert!(variables(region).contains(&("AWS_REGION", "eu-west-1")));
        assert!(!variables(region).contains(&("AWS_REGION", "ap-northeast-2")));
        assert_eq!((variables(own), own.volume_mounts.is_none()), (vec![("AWS_ROLE_ARN", "arn:own")], true));
        let volume = &spec.volumes.expect("volumes")[0];
        let token = super::super::projection::tokens_of(volume).next().expect("a token");
        assert_eq!((token.audience.as_str(), token.seconds), (AUDIENCE, SECONDS));
    }
}

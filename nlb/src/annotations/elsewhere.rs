//! Keys of the same family that only other controllers read.

use super::keys::{ATTRIBUTES, LISTENER_ATTRIBUTES, SECURITY_GROUPS, TARGET_GROUP_ATTRIBUTES};

/// What to write instead of a key that belongs to the controller inside Kubernetes, if it is one.
pub(super) fn in_tree_only(key: &str) -> Option<String> {
    let name = key.strip_prefix(super::keys::FAMILY)?;
    Some(match name {
        "connection-idle-timeout" => {
            format!("write {LISTENER_ATTRIBUTES}TCP-<port>: tcp.idle_timeout.seconds=<60-6000>")
        }
        "connection-draining-enabled" | "connection-draining-timeout" => {
            format!("write {TARGET_GROUP_ATTRIBUTES}: deregistration_delay.timeout_seconds=<0-3600>")
        }
        "extra-security-groups" => format!("list all groups in {SECURITY_GROUPS}"),
        "access-log-emit-interval" => {
            format!("remove it; access logs are set by {ATTRIBUTES}: access_logs.s3.enabled=true")
        }
        _ => return None,
    })
}

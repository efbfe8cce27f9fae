//! What accounts may do in a cluster, by their roles, and what they did, by the API server's audit log.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::Value;

const OURS: &str = "system:serviceaccount:sluice-system:sluice-";

/// One verb on one kind of object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// `webhook` or `registrar`.
    pub program: String,
    /// Resource with its group and subresource: `pods/status`, `targetgroupbindings.elbv2.k8s.aws`.
    pub resource: String,
    /// `get`, `list`, ...
    pub verb: String,
}

/// What was asked for.
#[derive(Debug, Default)]
pub struct Asked {
    /// And allowed by roles, whatever came of it.
    pub allowed: BTreeSet<Permission>,
    /// And forbidden by their lack.
    pub forbidden: BTreeSet<Permission>,
}

fn resource(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What the roles in a manifest grant, but for the roles named in `except`.
pub fn granted(manifest: &str, except: &[String]) -> Result<BTreeSet<Permission>> {
    let objects: Vec<Option<Value>> = serde_saphyr::from_multiple(manifest).context("the manifest")?;
    let mut granted = BTreeSet::new();
    for role in objects.iter().flatten().filter(|o| matches!(o["kind"].as_str(), Some("Role" | "ClusterRole"))) {
        let name = role["metadata"]["name"].as_str().context("a role without a name")?;
        let Some(program) = name.strip_prefix("sluice-").and_then(|rest| rest.split('-').next()) else { continue };
        if except.iter().any(|except| except == name) {
            continue;
        }
        for rule in role["rules"].as_array().into_iter().flatten() {
            for (group, name) in texts(&rule["apiGroups"]).flat_map(|g| texts(&rule["resources"]).map(move |r| (g, r)))
            {
                granted.extend(texts(&rule["verbs"]).map(|verb| Permission {
                    program: program.to_owned(),
                    resource: resource(group, name),
                    verb: verb.to_owned(),
                }));
            }
        }
    }
    Ok(granted)
}

/// What our accounts asked for, by the lines of an audit log.
pub fn asked(log: &str) -> Result<Asked> {
    let mut asked = Asked::default();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| format!("a line of the audit log: {line}"))?;
        let program = event["user"]["username"].as_str().and_then(|name| name.strip_prefix(OURS));
        let object = &event["objectRef"];
        let (Some(program), Some(name)) = (program, object["resource"].as_str()) else { continue };
        let group = object["apiGroup"].as_str().unwrap_or_default();
        // Everybody may ask what it may.
        if group == "authorization.k8s.io" {
            continue;
        }
        let name = object["subresource"].as_str().map_or_else(|| name.to_owned(), |sub| format!("{name}/{sub}"));
        let permission = Permission {
            program: program.to_owned(),
            resource: resource(group, &name),
            verb: event["verb"].as_str().context("an event without a verb")?.to_owned(),
        };
        // Server-side apply of what is not there is a patch by name, and needs both.
        if permission.verb == "patch" && event["responseStatus"]["code"] == 201 {
            asked.allowed.insert(Permission { verb: "create".to_owned(), ..permission.clone() });
        }
        match event["annotations"]["authorization.k8s.io/decision"].as_str() {
            Some("allow") => asked.allowed.insert(permission),
            _ => asked.forbidden.insert(permission),
        };
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "
kind: ClusterRole
metadata: {name: sluice-registrar-bindings}
rules: [{apiGroups: [elbv2.k8s.aws, ''], resources: [things], verbs: [list, watch]}]
---
kind: Role
metadata: {name: sluice-registrar-other}
rules: [{apiGroups: [''], resources: [pods/status], verbs: [patch]}]
---
kind: ClusterRole
metadata: {name: other}
rules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]
";

    fn event(account: &str, verb: &str, object: &str, decision: &str) -> String {
        format!(
            r#"{{"user":{{"username":"system:serviceaccount:sluice-system:{account}"}},"verb":"{verb}",
            "objectRef":{object},"annotations":{{"authorization.k8s.io/decision":"{decision}"}}}}"#
        )
        .replace('\n', "")
    }

    fn shown(permissions: &BTreeSet<Permission>) -> Vec<String> {
        permissions.iter().map(|p| format!("{} {} {}", p.program, p.verb, p.resource)).collect()
    }

    #[test]
    fn roles_are_read_rule_by_rule() {
        let all = granted(MANIFEST, &[]).unwrap();
        let expected = [
            "registrar patch pods/status",
            "registrar list things",
            "registrar watch things",
            "registrar list things.elbv2.k8s.aws",
            "registrar watch things.elbv2.k8s.aws",
        ];
        assert_eq!(shown(&all), expected);
        let some = granted(MANIFEST, &["sluice-registrar-bindings".to_owned()]).unwrap();
        assert_eq!(shown(&some), ["registrar patch pods/status"]);
    }

    #[test]
    fn events_of_our_accounts_are_told_from_others() {
        let log = [
            event("sluice-webhook", "list", r#"{"resource":"services"}"#, "allow"),
            event("sluice-registrar", "patch", r#"{"resource":"pods","subresource":"status"}"#, "allow"),
            event("sluice-registrar", "get", r#"{"resource":"secrets"}"#, "forbid"),
            event("default", "get", r#"{"resource":"pods"}"#, "forbid"),
            event("sluice-registrar", "create", r#"{"resource":"x","apiGroup":"authorization.k8s.io"}"#, "allow"),
        ];
        let applied = event("sluice-registrar", "patch", r#"{"resource":"made"}"#, "allow");
        let applied = applied.replacen('{', r#"{"responseStatus":{"code":201},"#, 1);
        let log = [&log[..], &[applied]].concat();
        let asked = asked(&log.join("\n")).unwrap();
        assert_eq!(
            shown(&asked.allowed),
            ["registrar create made", "registrar patch made", "registrar patch pods/status", "webhook list services"]
        );
        assert_eq!(shown(&asked.forbidden), ["registrar get secrets"]);
    }
}

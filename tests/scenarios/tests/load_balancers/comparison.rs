//! What AWS has, against what the model of a Service says that it is to have.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

/// Reads everything by boto3.
const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/load_balancers/aws_state.py");
/// The tag that says of which Service a resource is, as `<namespace>/<name>`.
const STACK: &str = "service.k8s.aws/stack";

/// Everything that AWS has, in the shape of `aws_state.py`.
pub(crate) async fn aws() -> Result<Value> {
    super::json("python3", &[READER], "").await
}

/// Names of what AWS has for the Services of a namespace.
pub(crate) fn of_namespace(state: &Value, namespace: &str) -> Vec<String> {
    let prefix = format!("{namespace}/");
    let kinds = ["loadBalancers", "targetGroups", "securityGroups"].map(|kind| state[kind].as_object());
    let all = kinds.into_iter().flatten().flatten();
    let ours = all.filter(|(_, found)| found["Tags"][STACK].as_str().is_some_and(|stack| stack.starts_with(&prefix)));
    ours.map(|(name, found)| format!("{name} of {}", text(&found["Tags"][STACK]))).collect()
}

/// AWS takes no empty text for where access logs go, once they are on, and takes no address away.
const NEVER_RESET: [&str; 3] =
    ["access_logs.s3.bucket", "access_logs.s3.prefix", "secondary_ips.auto_assigned.per_subnet"];

/// What attributes are where nobody sets them: by kind of resource with its protocol, and key.
pub(crate) type Defaults = BTreeMap<(String, String), String>;

/// Everything in AWS that is not as the model of one Service says.
pub(crate) struct Comparison<'a> {
    state: &'a Value,
    defaults: &'a mut Defaults,
    /// Whether the resources are as they were created: what the model does not set is a default then.
    fresh: bool,
    wrong: Vec<String>,
}

impl<'a> Comparison<'a> {
    /// Of one Service, as `registrar plan -o json` shows it, and the bindings of its namespace.
    pub(crate) fn of(
        model: &Value,
        state: &'a Value,
        bindings: &[Value],
        defaults: &'a mut Defaults,
        fresh: bool,
    ) -> Vec<String> {
        let mut comparison = Self { state, defaults, fresh, wrong: Vec::new() };
        let model = comparison.resolved(model);
        comparison.load_balancer(&model);
        for group in list(&model["targetGroups"]) {
            comparison.target_group(group);
        }
        for group in list(&model["securityGroups"]) {
            comparison.security_group(group);
        }
        comparison.others(&model);
        comparison.bindings(list(&model["bindings"]), bindings);
        comparison.wrong
    }

    /// The model with ids in the place of names for what had none yet.
    fn resolved(&self, model: &Value) -> Value {
        let mut ids = BTreeMap::new();
        for (id, group) in self.state["securityGroups"].as_object().into_iter().flatten() {
            let named = |wanted: &&Value| wanted["GroupName"] == group["GroupName"];
            if let Some(managed) = list(&model["securityGroups"]).iter().find(named) {
                ids.insert(text(&managed["GroupId"]), id.clone());
            }
            if group["Tags"]["elbv2.k8s.aws/resource"] == "backend-sg" {
                ids.insert("$backend-sg".to_owned(), id.clone());
            }
        }
        for (resource, group) in self.state["targetGroups"].as_object().into_iter().flatten() {
            ids.insert(format!("${resource}"), text(&group["TargetGroupArn"]));
            // A group that stays keeps the name that it was made with.
            let of_resource = |wanted: &&Value| wanted["Resource"] == resource.as_str();
            if let Some(wanted) = list(&model["targetGroups"]).iter().find(of_resource).filter(|_| !self.fresh) {
                ids.insert(text(&wanted["Name"]), text(&group["TargetGroupName"]));
            }
        }
        replaced(model, &ids)
    }

    fn load_balancer(&mut self, model: &Value) {
        let wanted = &model["loadBalancer"];
        let name = text(&wanted["LoadBalancerName"]);
        let found = &self.state["loadBalancers"][&name];
        if found.is_null() {
            self.wrong.push(format!("there is no load balancer {name}"));
            return;
        }
        for key in ["LoadBalancerName", "Type", "Scheme", "IpAddressType", "MinimumLoadBalancerCapacity"] {
            self.same(key, &wanted[key], &found[key]);
        }
        let private_link = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic";
        if let Some(on) = wanted[private_link].as_bool() {
            self.same(private_link, &(if on { "on" } else { "off" }).into(), &found[private_link]);
        }
        let source_nat = wanted["EnablePrefixForIpv6SourceNat"] == true;
        let word = if source_nat { "on" } else { "off" };
        self.same("EnablePrefixForIpv6SourceNat", &word.into(), &found["EnablePrefixForIpv6SourceNat"]);
        self.same("Tags", &wanted["Tags"], &found["Tags"]);
        let mut groups: Vec<String> = list(&wanted["SecurityGroups"]).iter().map(text).collect();
        groups.sort();
        if !wanted["SecurityGroups"].is_null() {
            self.same("SecurityGroups", &groups.into(), &found["SecurityGroups"]);
        }
        let mut subnets: Vec<String> =
            list(&wanted["SubnetMappings"]).iter().map(|mapping| text(&mapping["SubnetId"])).collect();
        subnets.sort();
        self.same("Subnets", &subnets.into(), &found["Subnets"]);
        for mapping in list(&wanted["SubnetMappings"]) {
            let subnet = text(&mapping["SubnetId"]);
            let has = &found["Addresses"][&subnet];
            for key in ["AllocationId", "PrivateIPv4Address", "IPv6Address"] {
                self.same(&format!("{key} in {subnet}"), &mapping[key], &has[key]);
            }
            let (wanted, given) = (&mapping["SourceNatIpv6Prefix"], &has["SourceNatIpv6Prefix"]);
            // Where none is named AWS assigns one.
            if given.is_null() == source_nat || !(wanted.is_null() || *wanted == "auto_assigned" || wanted == given) {
                self.wrong.push(format!("source NAT in {subnet} is from {given}, not {wanted}"));
            }
        }
        self.attributes(
            &format!("{} load balancer", text(&wanted["Scheme"])),
            &wanted["Attributes"],
            &found["Attributes"],
        );
        let listeners = list(&model["listeners"]);
        let ports: Vec<String> = listeners.iter().map(|listener| listener["Port"].to_string()).collect();
        for port in found["Listeners"].as_object().into_iter().flatten().map(|(port, _)| port) {
            if !ports.contains(port) {
                self.wrong.push(format!("there is a listener {port}"));
            }
        }
        for (listener, port) in listeners.iter().zip(&ports) {
            self.listener(port, listener, &found["Listeners"][port]);
        }
    }

    fn listener(&mut self, port: &str, wanted: &Value, found: &Value) {
        for key in ["Protocol", "SslPolicy", "AlpnPolicy", "Tags"] {
            self.same(&format!("listener {port} {key}"), &wanted[key], &found[key]);
        }
        if !list(&wanted["Certificates"]).is_empty() {
            self.same(&format!("listener {port} Certificates"), &wanted["Certificates"], &found["Certificates"]);
        }
        let forward = &wanted["DefaultActions"];
        self.same(&format!("listener {port} Sticky"), &forward["Sticky"], &found["Sticky"]);
        let mut groups = serde_json::Map::new();
        for weighted in list(&forward["TargetGroups"]) {
            let group = &self.state["targetGroups"][text(&weighted["Own"])]["TargetGroupArn"];
            let arn = if group.is_null() { &weighted["TargetGroupArn"] } else { group };
            // One group has a weight that nobody reads.
            let weight = if weighted["Weight"].is_null() { &found["Forward"][text(arn)] } else { &weighted["Weight"] };
            // That of another Service is told by its number alone here.
            groups.insert(text(arn), weight.clone());
        }
        if groups.contains_key("") {
            let count = found["Forward"].as_object().map_or(0, serde_json::Map::len);
            let wanted = list(&forward["TargetGroups"]).len();
            self.same(&format!("listener {port} groups"), &wanted.into(), &count.into());
        } else {
            self.same(&format!("listener {port} groups"), &groups.into(), &found["Forward"]);
        }
        let kind = format!("listener {}", text(&wanted["Protocol"]));
        self.attributes(&kind, &wanted["Attributes"], &found["Attributes"]);
    }

    fn target_group(&mut self, wanted: &Value) {
        let resource = text(&wanted["Resource"]);
        let found = &self.state["targetGroups"][&resource];
        if found.is_null() {
            self.wrong.push(format!("there is no target group {resource}"));
            return;
        }
        self.same(&format!("name of {resource}"), &wanted["Name"], &found["TargetGroupName"]);
        for (key, value) in wanted.as_object().into_iter().flatten() {
            let is_of_aws = !["Resource", "Name", "ServicePort", "MultiCluster", "NodeSelector", "TargetPorts"]
                .contains(&key.as_str());
            if is_of_aws && key != "Attributes" {
                self.same(&format!("{key} of {resource}"), value, &found[key]);
            }
        }
        let kind = format!("target group {} {}", text(&wanted["Protocol"]), text(&wanted["TargetType"]));
        self.attributes(&kind, &wanted["Attributes"], &found["Attributes"]);
    }

    /// Target groups of the Service that are not in its model, or stand beside others of it.
    fn others(&mut self, model: &Value) {
        let stack = format!("{}/{}", text(&model["namespace"]), text(&model["name"]));
        let wanted: Vec<String> = list(&model["targetGroups"]).iter().map(|group| text(&group["Resource"])).collect();
        let all = self.state["targetGroups"].as_object().into_iter().flatten();
        // Those of Services that its listeners forward to besides bear its tag too.
        let ours = all.filter(|(resource, _)| resource.starts_with(&format!("{stack}:")));
        for (resource, group) in ours.filter(|(resource, _)| !wanted.contains(resource)) {
            self.wrong.push(format!("there is a target group {} of {resource}", group["TargetGroupName"]));
        }
        for surplus in list(&self.state["surplus"]).iter().filter(|group| group["Tags"][STACK] == stack.as_str()) {
            self.wrong.push(format!("target group {} stands beside another", surplus["TargetGroupName"]));
        }
    }

    fn security_group(&mut self, wanted: &Value) {
        let id = text(&wanted["GroupId"]);
        let found = &self.state["securityGroups"][&id];
        let name = text(&wanted["GroupName"]);
        self.same(&format!("{name} Tags"), &wanted["Tags"], &found["Tags"]);
        let rule = |rule: &Value| {
            let mut rule = rule.clone();
            if let Some(rule) = rule.as_object_mut() {
                rule.remove("Description");
            }
            rule.to_string()
        };
        let sorted = |rules: &Value| {
            let mut rules: Vec<String> = list(rules).iter().map(rule).collect();
            rules.sort();
            Value::from(rules)
        };
        self.same(&format!("{name} rules"), &sorted(&wanted["IpPermissions"]), &sorted(&found["IpPermissions"]));
    }

    fn bindings(&mut self, wanted: &[Value], found: &[Value]) {
        let key = |binding: &Value| text(&binding["name"]);
        for binding in wanted {
            match found.iter().find(|found| found["metadata"]["name"] == binding["name"]) {
                None => self.wrong.push(format!("there is no binding {}", key(binding))),
                Some(found) => {
                    let what = format!("binding {}", key(binding));
                    self.part(&format!("{what} labels"), &binding["labels"], &found["metadata"]["labels"]);
                    self.part(&format!("{what} spec"), &binding["spec"], &found["spec"]);
                }
            }
        }
        let own = |binding: &&Value| {
            wanted.iter().any(|wanted| wanted["spec"]["serviceRef"]["name"] == binding["spec"]["serviceRef"]["name"])
        };
        self.same("number of bindings", &wanted.len().into(), &found.iter().filter(own).count().into());
    }

    /// Attributes that are set are as they are set; all others are as AWS makes them.
    fn attributes(&mut self, kind: &str, wanted: &Value, found: &Value) {
        for (key, value) in found.as_object().into_iter().flatten() {
            let of = (kind.to_owned(), key.clone());
            match wanted.get(key) {
                Some(wanted) => self.same(&format!("{kind} {key}"), wanted, value),
                None if NEVER_RESET.contains(&key.as_str()) => {}
                None => match self.defaults.get(&of).cloned() {
                    Some(default) => self.same(&format!("{kind} {key}, which nothing sets,"), &default.into(), value),
                    None if self.fresh => _ = self.defaults.insert(of, text(value)),
                    None => {}
                },
            }
        }
        for (key, wanted) in wanted.as_object().into_iter().flatten() {
            if found.get(key).is_none() {
                self.wrong.push(format!("{kind} has no {key}, wanted {wanted}"));
            }
        }
    }

    fn same(&mut self, what: &str, wanted: &Value, found: &Value) {
        if !wanted.is_null() && wanted != found {
            self.wrong.push(format!("{what} is {found}, not {wanted}"));
        }
    }

    /// Everything that is wanted is there; there may be more.
    fn part(&mut self, what: &str, wanted: &Value, found: &Value) {
        match wanted {
            Value::Object(fields) => {
                for (key, value) in fields {
                    self.part(&format!("{what}.{key}"), value, &found[key]);
                }
            }
            Value::Array(items) if items.len() == list(found).len() => {
                for (n, (wanted, found)) in items.iter().zip(list(found)).enumerate() {
                    self.part(&format!("{what}[{n}]"), wanted, found);
                }
            }
            // Ranges of subnets, which the Service alone does not tell.
            Value::Array(items) if items.is_empty() && what.rsplit('.').next() == Some("from") => {}
            // What is off may be left out.
            Value::Bool(false) if found.is_null() => {}
            other => self.same(what, other, found),
        }
    }
}

fn replaced(value: &Value, ids: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => ids.get(text).unwrap_or(text).clone().into(),
        Value::Array(items) => items.iter().map(|item| replaced(item, ids)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), replaced(value, ids))).collect())
        }
        other => other.clone(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(String::new, str::to_owned)
}

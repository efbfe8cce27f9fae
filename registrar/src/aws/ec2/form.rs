//! Forms of the EC2 query protocol: flat names, lists counted from 1 (`Filter.1.Value.2`).

use std::collections::BTreeMap;

use registrar_core::aws::{Filter, Permission, Source};

/// Fields of a request in the order in which they are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn with(mut self, name: impl Into<String>, value: &str) -> Self {
        self.0.push((name.into(), value.to_owned()));
        self
    }

    pub(super) fn list(self, name: &str, values: &[String]) -> Self {
        (1..).zip(values).fold(self, |form, (n, value)| form.with(format!("{name}.{n}"), value))
    }

    pub(super) fn filters(self, filters: &[Filter]) -> Self {
        (1..).zip(filters).fold(self, |form, (n, filter)| {
            form.with(format!("Filter.{n}.Name"), &filter.name).list(&format!("Filter.{n}.Value"), &filter.values)
        })
    }

    pub(super) fn tags(self, name: &str, tags: &BTreeMap<String, String>) -> Self {
        (1..).zip(tags).fold(self, |form, (n, (key, value))| {
            form.with(format!("{name}.{n}.Key"), key).with(format!("{name}.{n}.Value"), value)
        })
    }

    /// Tags to take off. A key without a value takes the tag off whatever its value is.
    pub(super) fn tag_keys(self, name: &str, keys: &[String]) -> Self {
        (1..).zip(keys).fold(self, |form, (n, key)| form.with(format!("{name}.{n}.Key"), key))
    }

    /// One permission for each rule: AWS makes one rule of each of their sources anyway.
    pub(super) fn permissions(self, permissions: &[Permission]) -> Self {
        (1..).zip(permissions).fold(self, |form, (n, permission)| {
            let name = |field: &str| format!("IpPermissions.{n}.{field}");
            let mut form = form.with(name("IpProtocol"), &permission.ip_protocol);
            for (field, port) in [("FromPort", permission.from_port), ("ToPort", permission.to_port)] {
                if let Some(port) = port {
                    form = form.with(name(field), &port.to_string());
                }
            }
            let (list, field, source) = match &permission.source {
                Source::Ipv4(range) => ("IpRanges", "CidrIp", range),
                Source::Ipv6(range) => ("Ipv6Ranges", "CidrIpv6", range),
                Source::PrefixList(id) => ("PrefixListIds", "PrefixListId", id),
                Source::Group(id) => ("Groups", "GroupId", id),
            };
            let form = form.with(name(&format!("{list}.1.{field}")), source);
            match &permission.description {
                Some(text) => form.with(name(&format!("{list}.1.Description")), text),
                None => form,
            }
        })
    }

    /// As a request's body.
    pub(super) fn body(&self, operation: &str, from: Option<&str>) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", operation).append_pair("Version", "2016-11-15").extend_pairs(&self.0);
        if let Some(token) = from {
            form.append_pair("NextToken", token);
        }
        form.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_of_a_rule_has_its_list() {
        let rule = |source, description: Option<&str>| Permission {
            ip_protocol: "tcp".to_owned(),
            from_port: Some(80),
            to_port: Some(81),
            source,
            description: description.map(ToOwned::to_owned),
        };
        let all = Permission {
            ip_protocol: "-1".to_owned(),
            from_port: None,
            to_port: None,
            ..rule(Source::Group("sg-1".into()), None)
        };
        let form = Form::default().permissions(&[
            rule(Source::Ipv4("10.0.0.0/8".into()), Some("a b")),
            rule(Source::Ipv6("fd00::/8".into()), None),
            rule(Source::PrefixList("pl-1".into()), None),
            all,
        ]);
        let sent = form.body("X", None);
        let sent: Vec<_> = sent.split('&').skip(2).collect();
        assert_eq!(
            sent,
            [
                "IpPermissions.1.IpProtocol=tcp",
                "IpPermissions.1.FromPort=80",
                "IpPermissions.1.ToPort=81",
                "IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0%2F8",
                "IpPermissions.1.IpRanges.1.Description=a+b",
                "IpPermissions.2.IpProtocol=tcp",
                "IpPermissions.2.FromPort=80",
                "IpPermissions.2.ToPort=81",
                "IpPermissions.2.Ipv6Ranges.1.CidrIpv6=fd00%3A%3A%2F8",
                "IpPermissions.3.IpProtocol=tcp",
                "IpPermissions.3.FromPort=80",
                "IpPermissions.3.ToPort=81",
                "IpPermissions.3.PrefixListIds.1.PrefixListId=pl-1",
                "IpPermissions.4.IpProtocol=-1",
                "IpPermissions.4.Groups.1.GroupId=sg-1",
            ]
        );
    }

    #[test]
    fn filters_and_tags_are_counted_from_one() {
        let filter = Filter { name: "tag:a".into(), values: vec![String::new(), "1".into()] };
        let tags = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let form = Form::default().filters(&[filter]).tags("Tag", &tags).tag_keys("Tag", &["gone".into()]);
        assert_eq!(
            form.body("DescribeSubnets", Some("more")),
            "Action=DescribeSubnets&Version=2016-11-15&Filter.1.Name=tag%3Aa&Filter.1.Value.1=&Filter.1.Value.2=1\
             &Tag.1.Key=k&Tag.1.Value=v&Tag.1.Key=gone&NextToken=more"
        );
    }
}

//! Certificates of TLS listeners: stored and listed, never used.

use super::{
    listing::{MARKER, PAGE_SIZE, listing, page},
    lookup::Noun,
};
use crate::{
    Model, Value,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Fields, Kind, TEXT, optional, required},
    value::record,
};

pub(super) const CERTIFICATES: Kind =
    Kind::list(&Kind::Record(&[optional("CertificateArn", TEXT), optional("IsDefault", Kind::Bool)]));

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeListenerCertificates",
    bucket: Bucket::Describe,
    accepts: &[required("ListenerArn", TEXT), MARKER, PAGE_SIZE],
    refuses: &[Code::ListenerNotFound],
    run: |model, input| {
        let key = model.listener_key(input.need("ListenerArn"))?;
        let Some(listener) = model.listeners.get(key) else { return Err(Noun::Listener.missing()) };
        let (page, next) = page(input, 1..=listener.certificates.len() as u64)?;
        let at = |n: u64| usize::try_from(n - 1).ok().and_then(|n| Some((n, listener.certificates.get(n)?)));
        let shown = page.into_iter().filter_map(at).map(|(n, arn)| show(arn, n == 0));
        Ok(listing("Certificates", shown, next))
    },
};

pub(super) const ADD: Operation = Operation {
    name: "AddListenerCertificates",
    bucket: Bucket::Other,
    accepts: &[required("ListenerArn", TEXT), required("Certificates", CERTIFICATES)],
    refuses: &[
        Code::ListenerNotFound,
        Code::TooManyCertificates,
        Code::CertificateNotFound,
        Code::InvalidConfigurationRequest,
    ],
    run: |model, input| {
        let key = model.listener_key(input.need("ListenerArn"))?;
        let added = read(input)?;
        let quota = model.settings.quota_certificates as usize;
        let Some(listener) = model.listeners.get_mut(key) else { return Err(Noun::Listener.missing()) };
        if listener.protocol != "TLS" {
            return Code::InvalidConfigurationRequest.refuse("Certificates can be added only to TLS listeners");
        }
        // The default certificate may be among the others too: then it stays when it is the default no more.
        let mut all = listener.certificates.clone();
        all.extend(
            added.iter().filter(|arn| !listener.certificates.iter().skip(1).any(|other| other == *arn)).cloned(),
        );
        if all.len() > quota {
            return Code::TooManyCertificates
                .refuse(format!("The maximum number of certificates '{quota}' has been reached"));
        }
        listener.certificates = all;
        Ok(record! { "Certificates": added.iter().map(|arn| show(arn, false)).collect::<Value>() })
    },
};

pub(super) const REMOVE: Operation = Operation {
    name: "RemoveListenerCertificates",
    bucket: Bucket::Other,
    accepts: &[required("ListenerArn", TEXT), required("Certificates", CERTIFICATES)],
    refuses: &[Code::ListenerNotFound, Code::OperationNotPermitted, Code::CertificateNotFound],
    run: |model, input| {
        let key = model.listener_key(input.need("ListenerArn"))?;
        let removed = read(input)?;
        let Some(listener) = model.listeners.get_mut(key) else { return Err(Noun::Listener.missing()) };
        let Some((default, others)) = listener.certificates.split_first() else { return Ok(Value::empty()) };
        if removed.contains(default) && !others.contains(default) {
            return Code::OperationNotPermitted.refuse("The default certificate cannot be removed");
        }
        let left = others.iter().filter(|arn| !removed.contains(arn));
        listener.certificates = std::iter::once(default).chain(left).cloned().collect();
        Ok(Value::empty())
    },
};

/// The certificates of a call, each an ACM or IAM ARN.
pub(super) fn read(fields: &Fields) -> Result<Vec<String>> {
    let mut arns = Vec::new();
    for certificate in fields.records("Certificates") {
        let arn = certificate.text("CertificateArn").unwrap_or_default();
        if !(arn.starts_with("arn:aws:acm:") || arn.starts_with("arn:aws:iam:")) {
            return Code::CertificateNotFound.refuse(format!("Certificate '{arn}' not found"));
        }
        arns.push(arn.to_owned());
    }
    Ok(arns)
}

pub(super) fn show(arn: &str, default: bool) -> Value {
    record! { "CertificateArn": arn, "IsDefault": default }
}

impl Model {
    /// Certificates over all listeners of a load balancer, for the quota.
    pub(super) fn certificates_of(&self, balancer: crate::store::BalancerKey) -> usize {
        self.listeners.iter().filter(|(_, l)| l.balancer == balancer).map(|(_, l)| l.certificates.len()).sum()
    }
}

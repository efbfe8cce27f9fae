//! Services in files.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

/// Why a file gives no Services.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no YAML.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<serde_saphyr::Error>,
    },
    /// An object says that it is a Service and does not have the form of one.
    #[error("{}: Service {name}: {source}", path.display())]
    Service {
        /// The file.
        path: PathBuf,
        /// Its name.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// The Services of a file, `-` for standard input. Other objects are passed over.
pub fn read(path: &Path, namespace: &str) -> Result<Vec<Service>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        text
    } else {
        std::fs::read_to_string(path).map_err(failed)?
    };
    parse(path, &text, namespace)
}

/// The Services of a text, those in a `List` included. One without a namespace is of `namespace`.
fn parse(path: &Path, text: &str, namespace: &str) -> Result<Vec<Service>, Error> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|source| Error::Parse { path: path.to_owned(), source: Box::new(source) })?;
    let mut services = Vec::new();
    for document in documents {
        let items = match document.get("items") {
            Some(Value::Array(items)) => items.clone(),
            _ => vec![document],
        };
        for object in items.into_iter().filter(is_service) {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let mut service: Service = serde_json::from_value(object).map_err(|source| Error::Service {
                path: path.to_owned(),
                name,
                source,
            })?;
            service.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
            services.push(service);
        }
    }
    Ok(services)
}

fn is_service(object: &Value) -> bool {
    object["apiVersion"] == "v1" && object["kind"] == "Service"
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
apiVersion: v1
kind: Service
metadata: {name: one}
spec: {type: LoadBalancer, ports: [{port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: other}
---
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Service, metadata: {name: two, namespace: shop}}
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: three}}
";

    #[test]
    fn services_are_found_wherever_they_stand() {
        let services = parse(Path::new("f.yaml"), TEXT, "here").unwrap();
        let names: Vec<_> = services
            .iter()
            .map(|service| (service.metadata.namespace.as_deref(), service.metadata.name.as_deref()))
            .collect();
        assert_eq!(names, [(Some("here"), Some("one")), (Some("shop"), Some("two"))]);
    }

    #[test]
    fn what_is_no_service_says_where_it_stands() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: http}]}\n";
        let error = parse(Path::new("f.yaml"), text, "here").unwrap_err().to_string();
        assert!(error.starts_with("f.yaml: Service web: invalid type: string \"http\""), "{error}");
        let error = parse(Path::new("f.yaml"), "a: [", "here").unwrap_err().to_string();
        assert!(error.starts_with("f.yaml: "), "{error}");
    }
}

//! What this cluster has registered in a target group that others register targets in too: a `ConfigMap` in the peer's
//! format, so that either finds what the other wrote.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::api::{DeleteParams, PostParams};
use registrar_core::{
    cluster::Key,
    event::{Answer, Denial},
};

use super::{Cluster, denial};

/// The name of the binding follows.
const PREFIX: &str = "aws-lbc-targets-";
/// The one entry: targets as the core writes them, separated by commas.
const ENTRY: &str = "targets";

impl Cluster {
    pub(super) async fn get_ledger(&self, binding: &Key) -> Result<Answer, Denial> {
        let found = self.api::<ConfigMap>(binding).get_opt(&name(binding)).await.map_err(denial)?;
        Ok(Answer::Ledger(found.map(|map| targets(&map))))
    }

    pub(super) async fn put_ledger(&self, binding: &Key, targets: Option<&[String]>) -> Result<Answer, Denial> {
        let (api, name) = (self.api::<ConfigMap>(binding), name(binding));
        let Some(targets) = targets else {
            return match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => Ok(Answer::Done),
                Err(error) => match denial(error) {
                    Denial::NotFound => Ok(Answer::Done),
                    other => Err(other),
                },
            };
        };
        let data = BTreeMap::from([(ENTRY.to_owned(), targets.join(","))]);
        if let Some(mut map) = api.get_opt(&name).await.map_err(denial)? {
            map.data = Some(data);
            api.replace(&name, &PostParams::default(), &map).await.map_err(denial)?;
        } else {
            let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
            let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
            api.create(&PostParams::default(), &map).await.map_err(denial)?;
        }
        Ok(Answer::Done)
    }
}

fn name(binding: &Key) -> String {
    format!("{PREFIX}{}", binding.name)
}

fn targets(map: &ConfigMap) -> Vec<String> {
    let text = map.data.as_ref().and_then(|data| data.get(ENTRY)).map(String::as_str).unwrap_or_default();
    text.split(',').map(str::trim).filter(|target| !target.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_is_a_list_with_commas() {
        let map = |text: &str| ConfigMap {
            data: Some(BTreeMap::from([(ENTRY.to_owned(), text.to_owned())])),
            ..ConfigMap::default()
        };
        assert_eq!(targets(&map("10.0.0.1:80,10.0.0.2:80")), ["10.0.0.1:80", "10.0.0.2:80"]);
        assert!(targets(&map("")).is_empty());
        assert!(targets(&ConfigMap::default()).is_empty());
    }
}

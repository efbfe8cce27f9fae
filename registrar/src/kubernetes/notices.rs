//! Events for people.

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, Service},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Resource, api::PostParams};
use nlb::targetgroupbinding::TargetGroupBinding;
use registrar_core::{
    cluster::{Key, Uid},
    effect::{About, Notice},
    event::{Answer, Denial},
};

use super::{Cluster, MANAGER, denial};

/// The API takes no longer notes, in bytes.
const LONGEST_NOTE: usize = 1024;

impl Cluster {
    pub(super) async fn publish(&self, notice: &Notice) -> Result<Answer, Denial> {
        let (key, event) = self.event(notice, Timestamp::now());
        self.api::<Event>(key).create(&PostParams::default(), &event).await.map_err(denial)?;
        Ok(Answer::Done)
    }

    fn event<'a>(&self, notice: &'a Notice, now: Timestamp) -> (&'a Key, Event) {
        let (key, regarding) = match &notice.about {
            About::Pod(key, uid) => (key, reference::<Pod>(key, uid)),
            About::Binding(key, uid) => (key, reference::<TargetGroupBinding>(key, uid)),
            About::Service(key, uid) => (key, reference::<Service>(key, uid)),
        };
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", key.name, now.as_nanosecond())),
                namespace: Some(key.namespace.to_string()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            regarding: Some(regarding),
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(notice.reason.to_owned()),
            action: Some(notice.reason.to_owned()),
            note: Some(excerpt(&notice.message, LONGEST_NOTE)),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        (key, event)
    }
}

fn reference<K: Resource<DynamicType = ()>>(key: &Key, uid: &Uid) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        uid: Some(uid.0.to_string()),
        ..ObjectReference::default()
    }
}

/// The beginning of a text, cut between characters.
fn excerpt(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(longest - "…".len());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_note_is_cut_to_what_the_api_takes() {
        assert_eq!(excerpt("short", LONGEST_NOTE), "short");
        let cut = excerpt(&"ü".repeat(600), LONGEST_NOTE);
        assert!(cut.len() <= LONGEST_NOTE && cut.ends_with('…'));
    }
}

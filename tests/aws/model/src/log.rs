//! The ordered log: everything that happened, in the one order in which the model saw it.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use serde::Serialize;

use crate::plane::{FlowId, How};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Position in the log, from 1, without gaps.
    pub sequence: u64,
    /// Model time since the start, in seconds.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What can happen. In JSON, `kind` names the variant.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Event {
    /// An API call was answered.
    Api {
        /// ARN of the caller, `anonymous` for unsigned calls.
        who: String,
        /// First word of the client's user agent.
        agent: String,
        /// Service.
        service: crate::Service,
        /// Operation as asked for.
        action: String,
        /// Form fields as sent; secrets (tokens) are left out.
        fields: Vec<(String, String)>,
        /// HTTP status.
        status: u16,
        /// Error code, if it failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// Error message, if it failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// The reply's request id.
        request_id: String,
        /// Whether the reply was lost on purpose.
        lost: bool,
    },
    /// A load balancer changed its state.
    LoadBalancer {
        /// Its ARN.
        who: String,
        /// `provisioning`, `active` or `deleted`.
        state: String,
    },
    /// A target changed its state, as the API tells it.
    Target {
        /// The target as `id:port`.
        who: String,
        /// ARN of its group.
        target_group: String,
        /// State before, `none` for a new target.
        from: String,
        /// State after, `none` for a target that left the list.
        to: String,
        /// The reason that the API gives with the state.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// What a target may get changed in the data plane.
    Routing {
        /// The target as `id:port`.
        who: String,
        /// ARN of its group.
        target_group: String,
        /// `in-service` (new flows), `fallback` (new flows only when failing open) or `none`.
        standing: Standing,
    },
    /// A health check came back.
    Probe {
        /// The target as `id:port`.
        who: String,
        /// ARN of its group.
        target_group: String,
        /// Zone whose nodes checked.
        zone: String,
        /// Whether it passed.
        passed: bool,
        /// What came back.
        outcome: String,
    },
    /// A connection was given a target.
    FlowOpened {
        /// The client.
        who: SocketAddr,
        /// Identity of the flow.
        flow: FlowId,
        /// Where the client connected to.
        listener: SocketAddr,
        /// Zone of that address.
        zone: String,
        /// ARN of the group.
        target_group: String,
        /// The target as `id:port`.
        target: String,
        /// Whether it was chosen by failing open.
        fail_open: bool,
    },
    /// A connection was refused or swallowed without a flow.
    FlowRefused {
        /// The client.
        who: SocketAddr,
        /// Where the client connected to.
        listener: SocketAddr,
        /// Why, for example `no-targets`.
        cause: String,
    },
    /// A flow ended.
    FlowClosed {
        /// The client.
        who: SocketAddr,
        /// Identity of the flow.
        flow: FlowId,
        /// The target as `id:port`.
        target: String,
        /// How it ended.
        how: How,
        /// Why the model reset it, if it did.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<&'static str>,
        /// Payload bytes from client to target.
        to_target: u64,
        /// Payload bytes from target to client.
        to_client: u64,
    },
    /// A setting, an address, a zone or a fault was changed through the control API.
    Control {
        /// What was changed.
        who: String,
        /// Its new value.
        value: String,
    },
}

/// What a target gets in the data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// No flow at all.
    None,
    /// New flows only when there is nothing better (fail-open).
    Fallback,
    /// New flows.
    InService,
}

impl Serialize for FlowId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

fn seconds<S: serde::Serializer>(at: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(at.as_secs_f64())
}

/// Entries that the shell has not taken yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    sequence: u64,
    entries: VecDeque<Entry>,
}

impl Log {
    /// Entries kept when nobody takes them (the simulation may not care); the oldest go first.
    const KEPT: usize = 1 << 20;

    pub(crate) fn add(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        if self.entries.len() == Self::KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { sequence: self.sequence, at, event });
    }

    pub(crate) fn drain(&mut self) -> Vec<Entry> {
        self.entries.drain(..).collect()
    }
}

//! Every annotation that Sluice knows, in one table, and how their values are read and checked.
//!
//! [`TABLE`] is the only place that says which annotations exist. Parsing, admission checks, suggestions for mistyped
//! keys and the generated reference (`manifests/ANNOTATIONS.md`) all read it, so a new annotation is a new row and its use.

pub mod attributes;
mod elsewhere;
pub mod forms;
pub mod keys;
pub mod parse;
mod reader;
pub mod reference;
mod table;
mod values;

pub use reader::Annotations;
pub use table::TABLE;

/// Which kind of object an annotation is written on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service,
    /// A Pod, or the template of one.
    Pod,
    /// A TargetGroupBinding.
    TargetGroupBinding,
}

/// Whether a key is complete as it stands in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// The key is complete.
    None,
    /// The key goes on with the number of a Service port.
    Port,
    /// The key goes on with `<protocol>-<port>` of a listener, for example `TCP-80`.
    Listener,
}

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text. A rule elsewhere may restrict it.
    Text,
    /// One of twelve words, see [`parse::boolean`].
    Boolean,
    /// An integer within bounds.
    Integer {
        /// Smallest.
        min: i32,
        /// Largest.
        max: i32,
    },
    /// One of these words, exactly.
    OneOf(&'static [&'static str]),
    /// One of these words, in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// Items separated by commas.
    List(Item),
    /// `key=value` pairs separated by commas.
    Map(Pairs),
    /// The name of a load balancer.
    LoadBalancerName,
    /// The name of an SSL policy.
    SslPolicy,
    /// `traffic-port`, a port number or the name of a Service port.
    HealthCheckPort,
    /// A path that begins with `/`.
    HealthCheckPath,
    /// HTTP status codes: `200`, `200,204`, `200-399`.
    StatusCodes,
    /// `auto`, `off` or a number of seconds.
    Drain {
        /// Whether `auto` is one of the words.
        auto: bool,
    },
    /// Hours, minutes and seconds: `90s`, `5m`, `1h30m`.
    Duration,
    /// A JSON object that describes the action of a listener.
    Action,
    /// JSON that Sluice writes for itself.
    Bookkeeping,
}

/// What an item of a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The ARN of a certificate.
    CertificateArn,
    /// A subnet id or the value of a `Name` tag.
    Subnet,
    /// A security group id or the value of a `Name` tag.
    SecurityGroup,
    /// The allocation id of an Elastic IP address.
    EipAllocation,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// `auto_assigned` or an IPv6 prefix of 80 bits.
    SourceNatPrefix,
    /// An IPv4 or IPv6 range.
    Cidr,
    /// The id of a prefix list.
    PrefixList,
    /// The number or name of a Service port.
    Port,
    /// The number of a Service port.
    PortNumber,
    /// The name of a container.
    Container,
}

/// What the pairs of a map are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// Attributes of a load balancer, target group or listener, see [`attributes`].
    Attributes(attributes::Scope),
    /// `CapacityUnits=<n>`.
    Capacity,
    /// AWS tags.
    Tags,
    /// Labels of nodes.
    Labels,
}

/// What happens when a value changes after the load balancer was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Applied in place.
    InPlace,
    /// Replaces the target groups; the new ones are filled before the old ones go.
    ReplacesTargetGroups,
    /// Replaces the load balancer, which gets a new DNS name.
    ReplacesLoadBalancer,
    /// Read at creation only.
    CreationOnly,
    /// Says whose the object is.
    Ownership,
    /// Read when a pod is created.
    NewPods,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Annotation {
    /// The key, or its fixed part if there is a tail.
    pub key: &'static str,
    /// What follows the fixed part.
    pub tail: Tail,
    /// On what it is written.
    pub object: Object,
    /// What its value must look like.
    pub kind: Kind,
    /// What holds when it is absent, in words.
    pub default: &'static str,
    /// The AWS or Kubernetes field that it drives.
    pub drives: &'static str,
    /// What a change does.
    pub change: Change,
    /// What to write instead, if it is there only for old manifests.
    pub instead: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}

/// Everything that can be said about the annotations of an object by looking at each alone: unknown and misplaced
/// keys, and values of the wrong form.
pub fn check<'a>(
    object: Object,
    annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Vec<crate::violation::Violation> {
    let mut violations = Vec::new();
    let mut unknown = keys::Unknown::default();
    for (key, value) in annotations {
        match keys::find(object, key) {
            Some(row) => violations.extend(values::check(row, key, value)),
            None => violations.extend(unknown.check(object, key, value)),
        }
    }
    violations
}

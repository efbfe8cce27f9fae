//! The reference of annotations, written from the table.

use std::fmt::Write as _;

use super::{
    Annotation, Change, Item, Kind, Object, Pairs, TABLE, Tail,
    attributes::{ATTRIBUTES, Form, Scope},
};

/// The reference in Markdown.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Annotations\n\n\
         Everything that Sluice reads from annotations. This page is written from the table that the programs use.\n\n\
         - Keys are case-sensitive. Unknown keys of these families give a warning that names the nearest known one.\n\
         - *Boolean*: `1 t T TRUE true True 0 f F FALSE false False`, in quotes.\n\
         - *List*: items separated by commas; blanks around them do not count.\n\
         - *Map*: `key=value` pairs separated by commas; `\\,` is a comma within a value.\n\
         - *A change* says what happens when the value changes after the load balancer was made.\n",
    );
    for (object, title) in
        [(Object::Service, "Services"), (Object::Pod, "Pods"), (Object::TargetGroupBinding, "TargetGroupBindings")]
    {
        let _ = write!(
            page,
            "\n## On {title}\n\n| Key | Value | Without it | AWS or Kubernetes field | A change |\n|---|---|---|---|---|\n"
        );
        for row in TABLE.iter().filter(|row| row.object == object) {
            line(&mut page, row);
        }
    }
    for (scope, title) in
        [(Scope::LoadBalancer, "load balancers"), (Scope::TargetGroup, "target groups"), (Scope::Listener, "listeners")]
    {
        let _ = write!(page, "\n## Attributes of {title}\n\n| Attribute | Value | Default of AWS |\n|---|---|---|\n");
        for attribute in
            ATTRIBUTES.iter().filter(|attribute| attribute.scope == scope && attribute.form != Form::NotHere)
        {
            let _ = writeln!(page, "| `{}` | {} | {} |", attribute.key, form(attribute.form), attribute.default);
        }
    }
    page
}

fn line(page: &mut String, row: &Annotation) {
    let tail = match row.tail {
        Tail::None => "",
        Tail::Port => "<port>",
        Tail::Listener => "<PROTOCOL>-<port>",
    };
    let instead = row.instead.map_or(String::new(), |instead| format!(" Old form of `{instead}`."));
    let change = match row.change {
        Change::InPlace => "in place",
        Change::ReplacesTargetGroups => "replaces the target groups",
        Change::ReplacesLoadBalancer => "replaces the load balancer",
        Change::CreationOnly => "no effect",
        Change::Ownership => "may delete the load balancer",
        Change::NewPods => "new pods only",
    };
    let drives = if row.drives == "-" { "-".to_owned() } else { format!("`{}`", row.drives) };
    let _ = writeln!(
        page,
        "| `{}{tail}`<br>{}.{instead} | {} | {} | {drives} | {change} |",
        row.key,
        row.help,
        kind(row.kind),
        row.default,
    );
}

fn words(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".into(),
        Kind::Boolean => "boolean".into(),
        Kind::Integer { min, max } => format!("{min} to {max}"),
        Kind::OneOf(list) => words(list),
        Kind::OneOfAnyCase(list) => format!("{}, in any case", words(list)),
        Kind::List(item) => format!("list: {}", self::item(item)),
        Kind::Map(pairs) => format!(
            "map: {}",
            match pairs {
                Pairs::Attributes(Scope::LoadBalancer) => "attributes of load balancers",
                Pairs::Attributes(Scope::TargetGroup) => "attributes of target groups",
                Pairs::Attributes(Scope::Listener) => "attributes of listeners",
                Pairs::Capacity => "`CapacityUnits=<n>`",
                Pairs::Tags => "tags",
                Pairs::Labels => "labels",
            }
        ),
        Kind::LoadBalancerName => "up to 32 letters, digits and inner hyphens, not `internal-...`".into(),
        Kind::SslPolicy => "`ELBSecurityPolicy-...`".into(),
        Kind::HealthCheckPort => "`traffic-port`, 1 to 65535, or a port name".into(),
        Kind::HealthCheckPath => "`/...`, up to 1024 characters".into(),
        Kind::StatusCodes => "`200`, `200,204`, `200-399`; within 200 to 599".into(),
        Kind::Drain { auto: true } => "`auto`, `off`, or 1 to 3600 seconds".into(),
        Kind::Drain { auto: false } => "`off`, or 1 to 3600 seconds".into(),
        Kind::Duration => "`90s`, `5m`, `1h30m`".into(),
        Kind::Action | Kind::Bookkeeping => "JSON".into(),
    }
}

fn item(item: Item) -> &'static str {
    match item {
        Item::CertificateArn => "certificate ARNs",
        Item::Subnet => "`subnet-...` or `Name` tags",
        Item::SecurityGroup => "`sg-...` or `Name` tags",
        Item::EipAllocation => "`eipalloc-...`",
        Item::Ipv4 => "IPv4 addresses",
        Item::Ipv6 => "IPv6 addresses",
        Item::SourceNatPrefix => "`auto_assigned` or IPv6 prefixes of 80 bits",
        Item::Cidr => "address ranges",
        Item::PrefixList => "`pl-...`",
        Item::Port => "numbers or names of Service ports",
        Item::PortNumber => "numbers of Service ports",
        Item::Container => "container names",
    }
}

fn form(form: Form) -> String {
    match form {
        Form::Boolean => "`true`, `false`".into(),
        Form::Integer { min, max: u32::MAX } => format!("{min} or more"),
        Form::Integer { min, max } => format!("{min} to {max}"),
        Form::OffOr { min, max: u32::MAX } => format!("`off`, {min} or more"),
        Form::OffOr { min, max } => format!("`off`, {min} to {max}"),
        Form::OneOf(list) => words(list),
        Form::Text => "text".into(),
        Form::NotHere => String::new(),
    }
}

//! What operations accept: one table of fields per operation, read from form fields with AWS's own complaints.

use std::collections::BTreeMap;

use crate::{
    Claims, Service,
    fault::{Code, Fault, Result},
};

/// One field of an operation's input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A string of `min..=max` characters.
    Text { min: usize, max: usize },
    /// A whole number in `min..=max`.
    Int { min: i64, max: i64 },
    /// `true` or `false`.
    Bool,
    /// One of the given words.
    OneOf(&'static [&'static str]),
    /// At most `max` items.
    List { of: &'static Kind, max: usize },
    /// Fields of its own.
    Record(&'static [Field]),
}

/// Any string.
pub(crate) const TEXT: Kind = Kind::Text { min: 0, max: usize::MAX };
/// Any number of any strings.
pub(crate) const TEXTS: Kind = Kind::List { of: &TEXT, max: LONGEST_LIST };
/// Length of a list that no field limits more closely: a bound on the work of one call.
const LONGEST_LIST: usize = 10_000;
/// Names nest no deeper in any operation.
const DEEPEST: usize = 12;

impl Kind {
    pub(crate) const fn int(min: i64, max: i64) -> Self {
        Self::Int { min, max }
    }

    pub(crate) const fn list(of: &'static Self) -> Self {
        Self::List { of, max: LONGEST_LIST }
    }
}

/// A field that may be left out.
pub(crate) const fn optional(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

/// A field that must be there.
pub(crate) const fn required(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Text(String),
    Int(i64),
    Bool(bool),
    List(Vec<Item>),
    Record(Fields),
}

/// Fields that were read, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(BTreeMap<&'static str, Item>);

impl Fields {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Item::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A required text: the table has seen to it that it is there.
    pub(crate) fn need(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.0.get(name) {
            Some(Item::Int(n)) => Some(*n),
            _ => None,
        }
    }

    /// A number whose range in the table fits the wanted type.
    pub(crate) fn number<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        self.int(name).and_then(|n| T::try_from(n).ok())
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match self.0.get(name) {
            Some(Item::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    fn list(&self, name: &str) -> Option<&[Item]> {
        match self.0.get(name) {
            Some(Item::List(items)) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The strings of a list; none if it is absent.
    pub(crate) fn texts(&self, name: &str) -> Vec<&str> {
        let texts = self.list(name).unwrap_or_default().iter();
        texts.filter_map(|item| if let Item::Text(text) = item { Some(text.as_str()) } else { None }).collect()
    }

    /// The records of a list; none if it is absent.
    pub(crate) fn records(&self, name: &str) -> Vec<&Self> {
        let items = self.list(name).unwrap_or_default().iter();
        items.filter_map(|item| if let Item::Record(fields) = item { Some(fields) } else { None }).collect()
    }

    pub(crate) fn record(&self, name: &str) -> Option<&Self> {
        match self.0.get(name) {
            Some(Item::Record(fields)) => Some(fields),
            _ => None,
        }
    }
}

/// An operation's input, and who sent it.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) fields: Fields,
    /// ARN and id of the caller.
    pub(crate) caller: crate::identity::Identity,
    /// For `AssumeRoleWithWebIdentity`.
    pub(crate) token: Option<std::result::Result<Claims, String>>,
}

impl std::ops::Deref for Input {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.fields
    }
}

/// Form fields as a tree along the dots of their names.
#[derive(Debug, Default)]
struct Node<'a> {
    value: Option<&'a str>,
    children: BTreeMap<&'a str, Node<'a>>,
}

/// Reads form fields by an operation's table. Fields that the table does not name are ignored, as AWS ignores them.
pub(crate) fn read(service: Service, table: &'static [Field], form: &[(String, String)]) -> Result<Fields> {
    let mut root = Node::default();
    for (name, value) in form {
        let mut node = &mut root;
        if name.split('.').count() > DEEPEST {
            return Err(malformed(service, &format!("the name `{}` nests too deeply", shorten(name))));
        }
        for part in name.split('.') {
            node = node.children.entry(part).or_default();
        }
        node.value = Some(value);
    }
    let mut reader = Reader { service, complaints: Vec::new() };
    let fields = reader.fields(table, &root, "")?;
    reader.finish(fields)
}

struct Reader {
    service: Service,
    complaints: Vec<String>,
}

impl Reader {
    fn fields(&mut self, table: &'static [Field], node: &Node<'_>, path: &str) -> Result<Fields> {
        let mut fields = Fields::default();
        for field in table {
            let path = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
            match node.children.get(field.name) {
                Some(child) => {
                    if let Some(item) = self.item(field.kind, child, &path)? {
                        fields.0.insert(field.name, item);
                    }
                }
                None if field.required => self.missing(&path),
                None => {}
            }
        }
        Ok(fields)
    }

    fn item(&mut self, kind: Kind, node: &Node<'_>, path: &str) -> Result<Option<Item>> {
        let value = node.value.unwrap_or_default();
        Ok(match kind {
            Kind::Text { min, max } => {
                let length = value.chars().count();
                if length < min {
                    self.constraint(value, path, &format!("Member must have length greater than or equal to {min}"));
                } else if length > max {
                    self.constraint(value, path, &format!("Member must have length less than or equal to {max}"));
                }
                Some(Item::Text(value.to_owned()))
            }
            Kind::Int { min, max } => {
                let Ok(number) = value.parse::<i64>() else {
                    return Err(malformed(self.service, &format!("`{}` at {path} is not a number", shorten(value))));
                };
                if number < min {
                    self.constraint(value, path, &format!("Member must have value greater than or equal to {min}"));
                } else if number > max {
                    self.constraint(value, path, &format!("Member must have value less than or equal to {max}"));
                }
                Some(Item::Int(number))
            }
            Kind::Bool => match value.to_ascii_lowercase().as_str() {
                "true" => Some(Item::Bool(true)),
                "false" => Some(Item::Bool(false)),
                _ => {
                    let what = format!("`{}` at {path} is neither true nor false", shorten(value));
                    return Err(malformed(self.service, &what));
                }
            },
            Kind::OneOf(words) => {
                if !words.contains(&value) {
                    let words = words.join(", ");
                    self.constraint(value, path, &format!("Member must satisfy enum value set: [{words}]"));
                }
                Some(Item::Text(value.to_owned()))
            }
            Kind::List { of, max } => self.list(*of, max, node, path)?.map(Item::List),
            Kind::Record(table) => Some(Item::Record(self.fields(table, node, path)?)),
        })
    }

    /// Items in the order of their numbers. `Name=` alone is an empty list.
    fn list(&mut self, of: Kind, max: usize, node: &Node<'_>, path: &str) -> Result<Option<Vec<Item>>> {
        let flat = self.service == Service::Ec2;
        let holder = if flat { Some(node) } else { node.children.get("member") };
        let mut numbered = Vec::new();
        for (key, child) in holder.iter().flat_map(|n| &n.children) {
            match key.parse::<u32>() {
                Ok(number) if number > 0 => numbered.push((number, child)),
                _ => {
                    let what = format!("`{}` is not the number of an item of {path}", shorten(key));
                    return Err(malformed(self.service, &what));
                }
            }
        }
        numbered.sort_unstable_by_key(|(number, _)| *number);
        if numbered.len() > max {
            self.constraint("[...]", path, &format!("Member must have length less than or equal to {max}"));
            return Ok(Some(Vec::new()));
        }
        let mut items = Vec::new();
        for (number, child) in numbered {
            let path = if flat { format!("{path}.{number}") } else { format!("{path}.{number}.member") };
            items.extend(self.item(of, child, &path)?);
        }
        Ok(Some(items))
    }

    fn missing(&mut self, path: &str) {
        if self.service == Service::Ec2 {
            self.complaints.push(path.to_owned());
        } else {
            let path = uncapitalized(path);
            self.complaints
                .push(format!("Value null at '{path}' failed to satisfy constraint: Member must not be null"));
        }
    }

    fn constraint(&mut self, value: &str, path: &str, says: &str) {
        let (value, path) = (shorten(value), uncapitalized(path));
        self.complaints.push(format!("Value '{value}' at '{path}' failed to satisfy constraint: {says}"));
    }

    fn finish(self, fields: Fields) -> Result<Fields> {
        let Some(first) = self.complaints.first() else { return Ok(fields) };
        if self.service == Service::Ec2 {
            return if first.contains("failed to satisfy") {
                Code::InvalidParameterValue.refuse(first)
            } else {
                Code::MissingParameter.refuse(format!("The request must contain the parameter {first}"))
            };
        }
        let (n, all) = (self.complaints.len(), self.complaints.join("; "));
        let errors = if n == 1 { "error" } else { "errors" };
        Code::ValidationError.refuse(format!("{n} validation {errors} detected: {all}"))
    }
}

/// A request that does not even have the form of its operation's input.
fn malformed(service: Service, what: &str) -> Fault {
    match service {
        Service::Ec2 => Code::InvalidParameterValue.because(format!("Invalid value: {what}")),
        Service::Elb | Service::Sts => Code::MalformedInput.because(what.to_owned()),
    }
}

/// Member paths in AWS's messages begin in lower case.
fn uncapitalized(path: &str) -> String {
    let parts = path.split('.').map(|part| {
        let mut chars = part.chars();
        chars.next().map_or(String::new(), |c| c.to_ascii_lowercase().to_string() + chars.as_str())
    });
    parts.collect::<Vec<_>>().join(".")
}

/// A value that is fit to be quoted.
fn shorten(value: &str) -> String {
    let mut short: String = value.chars().take(200).collect();
    if short.len() < value.len() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Kind =
        Kind::Record(&[required("Id", TEXT), optional("Port", Kind::int(1, 65535)), optional("On", Kind::Bool)]);
    const TABLE: &[Field] = &[
        required("Arn", TEXT),
        optional("Targets", Kind::List { of: &TARGET, max: 3 }),
        optional("Mode", Kind::OneOf(&["on", "off"])),
    ];

    fn form(text: &str) -> Vec<(String, String)> {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn items_come_in_the_order_of_their_numbers_and_unknown_fields_are_ignored() {
        let sent = "Arn=a&Targets.member.10.Id=c&Targets.member.2.Id=b&Targets.member.2.Port=80&Other.member.1=x";
        let fields = read(Service::Elb, TABLE, &form(sent)).expect("valid");
        let ids: Vec<_> = fields.records("Targets").iter().map(|t| (t.need("Id"), t.int("Port"))).collect();
        assert_eq!(ids, [("b", Some(80)), ("c", None)]);
    }

    #[test]
    fn bare_list_name_is_an_empty_list() {
        let fields = read(Service::Elb, TABLE, &form("Arn=a&Targets=")).expect("valid");
        assert!(fields.has("Targets"));
        assert!(fields.records("Targets").is_empty());
    }

    #[test]
    fn each_mistake_has_its_code_and_names_its_field() {
        let cases = [
            (Service::Elb, "Targets=", Code::ValidationError, "Value null at 'arn' failed"),
            (Service::Elb, "Arn=a&Targets.member.1.Port=80", Code::ValidationError, "'targets.1.member.id'"),
            (Service::Elb, "Arn=a&Targets.member.1.Id=b&Targets.member.1.Port=0", Code::ValidationError, "equal to 1"),
            (Service::Elb, "Arn=a&Targets.member.1.Id=b&Targets.member.1.Port=x", Code::MalformedInput, "not a number"),
            (Service::Elb, "Arn=a&Targets.member.one.Id=b", Code::MalformedInput, "`one`"),
            (Service::Elb, "Arn=a&Mode=auto", Code::ValidationError, "[on, off]"),
            (Service::Elb, "Arn=a&Targets.member.1.Id=b&Targets.member.1.On=1", Code::MalformedInput, "neither"),
            (Service::Elb, "Arn=a&a.b.c.d.e.f.g.h.i.j.k.l.m=1", Code::MalformedInput, "deep"),
            (Service::Ec2, "Mode=on", Code::MissingParameter, "parameter Arn"),
            (Service::Ec2, "Arn=a&Mode=x", Code::InvalidParameterValue, "'mode'"),
        ];
        for (service, sent, code, says) in cases {
            let fault = read(service, TABLE, &form(sent)).expect_err(sent);
            assert_eq!(fault.code, code, "{sent}");
            assert!(fault.message.contains(says), "{sent}: {}", fault.message);
        }
    }
}

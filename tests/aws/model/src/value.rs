//! Replies as trees, independent of how a protocol writes them.

/// A node of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A scalar as AWS writes it: `true`, `80`, a name.
    Text(String),
    /// Items, written as `<member>` by the query protocol and as `<item>` by EC2's.
    List(Vec<Value>),
    /// Fields in AWS's order. Absent fields are left out, as AWS does.
    Record(Vec<(&'static str, Value)>),
}

impl Value {
    /// The answer of operations that answer nothing.
    pub const fn empty() -> Self {
        Self::Record(Vec::new())
    }

    /// The field of a record.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Record(fields) => fields.iter().find(|(n, _)| *n == name).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The item of a list.
    pub fn at(&self, index: usize) -> Option<&Self> {
        self.items().get(index)
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// The scalar.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

macro_rules! scalar {
    ($($kind:ty)*) => {$(
        impl From<$kind> for Value {
            fn from(value: $kind) -> Self {
                Self::Text(value.to_string())
            }
        }
    )*};
}
scalar!(bool u16 u32 usize std::net::Ipv4Addr std::net::Ipv6Addr);

impl FromIterator<Self> for Value {
    fn from_iter<I: IntoIterator<Item = Self>>(items: I) -> Self {
        Self::List(items.into_iter().collect())
    }
}

/// A record under construction.
#[derive(Default)]
pub(crate) struct Builder(Vec<(&'static str, Value)>);

impl Builder {
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    pub(crate) fn maybe(self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value { self.with(name, value) } else { self }
    }

    pub(crate) fn done(self) -> Value {
        Value::Record(self.0)
    }
}

/// A record of the given fields; `? name: option` leaves out what is `None`.
macro_rules! record {
    (@ $built:expr;) => { $built.done() };
    (@ $built:expr; $name:literal : $value:expr $(, $($rest:tt)*)?) => {
        $crate::value::record!(@ $built.with($name, $value); $($($rest)*)?)
    };
    (@ $built:expr; ? $name:literal : $value:expr $(, $($rest:tt)*)?) => {
        $crate::value::record!(@ $built.maybe($name, $value); $($($rest)*)?)
    };
    ($($fields:tt)*) => { $crate::value::record!(@ $crate::value::Builder::default(); $($fields)*) };
}
pub(crate) use record;

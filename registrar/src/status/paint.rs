//! Colours of a terminal.

use std::io::IsTerminal as _;

/// Whether to paint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(bool);

/// A colour that every terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// Well.
    Green,
    /// On its way.
    Yellow,
    /// Wrong.
    Red,
    /// Of little interest.
    Dim,
}

impl Paint {
    /// None: for pipes and files.
    pub const PLAIN: Self = Self(false);
    /// For terminals.
    pub const COLORED: Self = Self(true);

    /// As standard output takes it: on a terminal, unless `NO_COLOR` says otherwise (no-color.org).
    pub fn of_stdout() -> Self {
        let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(std::io::stdout().is_terminal() && !declined)
    }

    /// In a colour.
    pub fn color(self, color: Color, text: &str) -> String {
        let code = match color {
            Color::Green => "32",
            Color::Yellow => "33",
            Color::Red => "31",
            Color::Dim => "2",
        };
        self.code(code, text)
    }

    /// In bold.
    pub fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    fn code(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

//! Form fields of a request.

/// The fields of a request, from its query string and its body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) fields: Vec<(String, String)>,
    /// Why they could not be read.
    pub(super) defect: Option<String>,
}

impl Form {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Removes a field.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.fields.iter().position(|(field, _)| field == name)?;
        Some(self.fields.remove(index).1)
    }
}

/// Reads `application/x-www-form-urlencoded` text. What is not UTF-8 or not percent-encoded as it should be is a defect,
/// where a lenient reader would hand on something that the client has not said.
pub(super) fn read(query: &[u8], body: &[u8]) -> Form {
    let mut form = Form::default();
    for text in [query, body] {
        for (name, value) in form_urlencoded::parse(text) {
            form.fields.push((name.into_owned(), value.into_owned()));
        }
        if let Some(defect) = defect(text) {
            form.defect = Some(defect);
        }
    }
    form
}

fn defect(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) if tail[0] != b'+' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                return Some("The query string contains a syntax error: `%` without two hexadecimal digits".to_owned());
            }
        }
    }
    let text = std::str::from_utf8(&bytes);
    text.is_err().then(|| "The query string contains a syntax error: it is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_from_query_and_body_decoded() {
        let form = read(b"Action=Describe", b"Name=a+b%2Fc&Empty=&Bare");
        assert_eq!(form.get("Name"), Some("a b/c"));
        assert_eq!((form.get("Empty"), form.get("Bare")), (Some(""), Some("")));
        assert_eq!((form.get("Action"), &form.defect), (Some("Describe"), &None));
    }

    #[test]
    fn broken_encodings_are_defects() {
        for broken in ["a=%", "a=%2", "a=%zz", "a=%+1", "a=%ff", "a=%C3"] {
            assert!(read(b"", broken.as_bytes()).defect.is_some(), "{broken}");
        }
        assert!(read(b"", &[b'a', b'=', 0xff]).defect.is_some());
    }
}

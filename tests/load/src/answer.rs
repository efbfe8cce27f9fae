//! Reads the answer of an echo server: 200, and a body whose first line is `Hostname: <pod>`.

use crate::failure::{Failure, Kind};

/// Longer answers are wrong.
pub const LIMIT: usize = 64 << 10;

const HEADERS: usize = 32;
const HOSTNAME: &str = "Hostname: ";

/// What the bytes so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The beginning of an answer.
    Partial,
    /// All of it, from this pod.
    From(String),
}

/// Looks at what came so far. An error is final: more bytes do not make the answer right.
pub fn read(bytes: &[u8]) -> Result<Answer, Failure> {
    let wrong = |detail: String| Failure::new(Kind::Wrong, detail);
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|e| wrong(format!("no HTTP: {e}")))?;
    let httparse::Status::Complete(head) = parsed else {
        return if bytes.len() < LIMIT { Ok(Answer::Partial) } else { Err(wrong("headers without end".to_owned())) };
    };
    if response.code != Some(200) {
        return Err(wrong(format!("status {}", response.code.unwrap_or_default())));
    }
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length: usize = length
        .and_then(|header| str::from_utf8(header.value).ok()?.trim().parse().ok())
        .filter(|length| *length < LIMIT)
        .ok_or_else(|| wrong("no content-length, or a large one".to_owned()))?;
    let Some(body) = bytes.get(head..head + length) else { return Ok(Answer::Partial) };
    let text = String::from_utf8_lossy(body);
    let pod = text.lines().next().and_then(|line| line.strip_prefix(HOSTNAME)).map(str::trim);
    match pod {
        Some(pod) if !pod.is_empty() => Ok(Answer::From(pod.to_owned())),
        _ => Err(wrong(format!("the body begins with {:?}", text.lines().next().unwrap_or_default()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_names_its_pod_once_all_of_it_is_there() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 19\r\n\r\nHostname: web-1\n\n\n\n";
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), Ok(Answer::Partial), "{end} bytes");
        }
        assert_eq!(read(whole), Ok(Answer::From("web-1".to_owned())));
    }

    #[test]
    fn every_other_answer_is_wrong_and_says_why() {
        for (bytes, says) in [
            ("SSH-2.0-x\r\n", "no HTTP"),
            ("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", "status 503"),
            ("HTTP/1.1 200 OK\r\n\r\nHostname: a\n", "no content-length"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n", "a large one"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhi\n\n", "\"hi\""),
            ("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nHostname: \n", "Hostname"),
        ] {
            let failure = read(bytes.as_bytes()).expect_err(bytes);
            assert_eq!(failure.kind, Kind::Wrong);
            assert!(failure.detail.contains(says), "{bytes:?}: {}", failure.detail);
        }
    }
}

//! Replies as XML: the query protocol's and EC2's.

use aws_model::{Body, Reply, Service, Value};

/// The body of a reply.
pub(super) fn render(service: Service, reply: &Reply) -> String {
    let (id, namespace) = (&reply.request_id, namespace(service));
    match (&reply.body, service) {
        (Body::Result { action, value }, Service::Ec2) => {
            let content = content(value, "item");
            format!("<{action}Response xmlns=\"{namespace}\"><requestId>{id}</requestId>{content}</{action}Response>")
        }
        (Body::Result { action, value }, Service::Elb | Service::Sts) => {
            let content = content(value, "member");
            format!(
                "<{action}Response xmlns=\"{namespace}\"><{action}Result>{content}</{action}Result>\
                 <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{action}Response>"
            )
        }
        (Body::Error { code, message }, Service::Ec2) => {
            let fault = fault(code, message);
            format!("<Response><Errors><Error>{fault}</Error></Errors><RequestID>{id}</RequestID></Response>")
        }
        (Body::Error { code, message }, Service::Elb | Service::Sts) => {
            let side = if reply.status < 500 { "Sender" } else { "Receiver" };
            let fault = fault(code, message);
            format!(
                "<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{side}</Type>{fault}</Error>\
                 <RequestId>{id}</RequestId></ErrorResponse>"
            )
        }
    }
}

/// The refusal of a service that is not emulated.
pub(super) fn unknown_service(message: &str) -> String {
    let fault = fault("InvalidAction", message);
    format!("<ErrorResponse><Error><Type>Sender</Type>{fault}</Error></ErrorResponse>")
}

const fn namespace(service: Service) -> &'static str {
    match service {
        Service::Elb => "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/",
        Service::Ec2 => "http://ec2.amazonaws.com/doc/2016-11-15/",
        Service::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
    }
}

fn fault(code: &str, message: &str) -> String {
    let mut escaped = String::new();
    escape(&mut escaped, message);
    format!("<Code>{code}</Code><Message>{escaped}</Message>")
}

fn content(value: &Value, item: &str) -> String {
    let mut xml = String::new();
    write(&mut xml, value, item);
    xml
}

fn write(xml: &mut String, value: &Value, item: &str) {
    match value {
        Value::Text(text) => escape(xml, text),
        Value::List(items) => items.iter().for_each(|value| element(xml, item, value, item)),
        Value::Record(fields) => fields.iter().for_each(|(name, value)| element(xml, name, value, item)),
    }
}

fn element(xml: &mut String, name: &str, value: &Value, item: &str) {
    xml.extend(["<", name, ">"]);
    write(xml, value, item);
    xml.extend(["</", name, ">"]);
}

/// Characters that XML 1.0 cannot hold at all are replaced.
fn escape(xml: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\r' => xml.push_str("&#13;"),
            '\t' | '\n' => xml.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => xml.push('\u{fffd}'),
            c => xml.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_model::Delivery;

    use super::*;

    fn reply(body: Body, status: u16) -> Reply {
        Reply { request_id: "id-1".to_owned(), status, body, delivery: Delivery::default() }
    }

    #[test]
    fn void_result_still_has_its_result_element() {
        let body = Body::Result { action: "DeleteListener", value: Value::empty() };
        let xml = render(Service::Elb, &reply(body, 200));
        assert!(xml.contains("<DeleteListenerResult></DeleteListenerResult>"), "{xml}");
    }

    #[test]
    fn each_protocol_has_its_own_items_and_errors() {
        let value = || Value::Record(vec![("set", Value::List(vec![Value::from("a<b")]))]);
        let body = || Body::Result { action: "DescribeX", value: value() };
        assert!(render(Service::Elb, &reply(body(), 200)).contains("<set><member>a&lt;b</member></set>"));
        assert!(render(Service::Ec2, &reply(body(), 200)).contains("<set><item>a&lt;b</item></set>"));
        let error = || Body::Error { code: "Bad".to_owned(), message: "no \u{1}".to_owned() };
        assert!(render(Service::Elb, &reply(error(), 400)).contains("<Type>Sender</Type><Code>Bad</Code>"));
        assert!(render(Service::Sts, &reply(error(), 500)).contains("<Type>Receiver</Type>"));
        let ec2 = "<Response><Errors><Error><Code>Bad</Code><Message>no \u{fffd}</Message></Error></Errors>";
        assert!(render(Service::Ec2, &reply(error(), 400)).starts_with(ec2));
    }
}

//! Calls of the AWS query protocol by the hundred. The AWS CLI, which all else here uses, takes half a second for each.

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

/// How these calls are told from others in the emulator's log.
pub const AGENT: &str = "sluice-bench";
/// Listeners of a load balancer, as AWS limits them.
const LISTENERS: usize = 50;

/// The lab's load balancing API.
#[derive(Debug, Clone)]
pub struct Elb {
    address: String,
}

impl Elb {
    /// The emulator that the environment names.
    pub fn new() -> Result<Self> {
        let url = std::env::var("AWS_ENDPOINT_URL").context("the lab names its AWS")?;
        let address = url.strip_prefix("http://").context("the emulator speaks HTTP")?;
        Ok(Self { address: address.trim_end_matches('/').to_owned() })
    }

    /// One call, and the text of its reply.
    ///
    /// Names and values are those of the protocol, and must need no encoding beside that of `/` and `:`. The emulator
    /// reads the key from the signature and does not verify it.
    pub async fn call(&self, action: &str, fields: &[(&str, &str)]) -> Result<String> {
        let fields = fields.iter().map(|(name, value)| format!("&{name}={value}"));
        let body = format!("Action={action}&Version=2015-12-01{}", fields.collect::<String>());
        let signature = "AWS4-HMAC-SHA256 Credential=lab/20260101/ap-northeast-2/elasticloadbalancing/aws4_request, \
                         SignedHeaders=host, Signature=00";
        let request = Request::post("/")
            .header(header::HOST, &self.address)
            .header(header::USER_AGENT, AGENT)
            .header(header::AUTHORIZATION, signature)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(body)))?;
        let stream = TcpStream::connect(&self.address).await.with_context(|| format!("connect to {}", self.address))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(request).await.with_context(|| format!("call {action}"))?;
        let status = response.status();
        let text = String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec())?;
        ensure!(status.is_success(), "{action}: {status}: {text}");
        Ok(text)
    }

    /// One call, and the first element of its reply that has this name.
    pub async fn ask(&self, action: &str, fields: &[(&str, &str)], element: &str) -> Result<String> {
        let reply = self.call(action, fields).await?;
        let (_, rest) = reply.split_once(&format!("<{element}>")).with_context(|| format!("{action}: no {element}"))?;
        Ok(rest.split('<').next().unwrap_or_default().to_owned())
    }
    /// Target groups `<prefix>-<number>` of addresses, each behind a listener of its own. Returns their ARNs.
    pub async fn target_groups(&self, prefix: &str, count: usize) -> Result<Vec<String>> {
        let mut groups = Vec::new();
        for first in (0..count).step_by(LISTENERS) {
            let name = format!("{prefix}-{first}");
            let mut fields = vec![("Name", name.as_str()), ("Type", "network"), ("Scheme", "internal")];
            fields.extend([
                ("Subnets.member.1", "subnet-0a00000000000aaa2"),
                ("Subnets.member.2", "subnet-0b00000000000bbb2"),
                ("Subnets.member.3", "subnet-0c00000000000ccc2"),
            ]);
            let balancer = self.ask("CreateLoadBalancer", &fields, "LoadBalancerArn").await?;
            let numbers = first..count.min(first + LISTENERS);
            let made = numbers.map(|number| self.target_group(&balancer, prefix, number));
            groups.extend(stream::iter(made).buffered(LISTENERS).try_collect::<Vec<_>>().await?);
        }
        Ok(groups)
    }

    async fn target_group(&self, balancer: &str, prefix: &str, number: usize) -> Result<String> {
        let (name, port) = (format!("{prefix}-{number}"), (1000 + number % LISTENERS).to_string());
        let fields = [
            ("Name", name.as_str()),
            ("Protocol", "TCP"),
            ("Port", "8080"),
            ("VpcId", "vpc-0a1b2c3d4e5f60718"),
            ("TargetType", "ip"),
            ("HealthyThresholdCount", "2"),
        ];
        let group = self.ask("CreateTargetGroup", &fields, "TargetGroupArn").await?;
        let fields = [
            ("LoadBalancerArn", balancer),
            ("Protocol", "TCP"),
            ("Port", port.as_str()),
            ("DefaultActions.member.1.Type", "forward"),
            ("DefaultActions.member.1.TargetGroupArn", group.as_str()),
        ];
        self.call("CreateListener", &fields).await?;
        Ok(group)
    }
}

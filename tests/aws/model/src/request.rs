//! API calls as values: what the wire has read, and what it is to write.

use std::time::Duration;

use crate::Value;

/// The services that are emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Elastic Load Balancing v2, signing name `elasticloadbalancing`.
    Elb,
    /// EC2, signing name `ec2`.
    Ec2,
    /// STS, signing name `sts`.
    Sts,
}

impl Service {
    /// All services.
    pub const ALL: [Self; 3] = [Self::Elb, Self::Ec2, Self::Sts];

    /// The name in a SigV4 credential scope, and before the colon of an IAM action.
    pub const fn signing_name(self) -> &'static str {
        match self {
            Self::Elb => "elasticloadbalancing",
            Self::Ec2 => "ec2",
            Self::Sts => "sts",
        }
    }

    /// The API version that clients send.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Elb => "2015-12-01",
            Self::Ec2 => "2016-11-15",
            Self::Sts => "2011-06-15",
        }
    }
}

/// One API call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which service it is for.
    pub service: Service,
    /// The `Action` field, if there was one.
    pub action: Option<String>,
    /// The other form fields in the order in which they came, names as sent (`Targets.member.1.Id`).
    pub fields: Vec<(String, String)>,
    /// What is wrong with the form's encoding, if it could not be read.
    pub defect: Option<String>,
    /// Who signed it; nobody for unsigned calls.
    pub caller: Option<Caller>,
    /// For `AssumeRoleWithWebIdentity`: the claims of the token, or why its signature was not accepted.
    pub token: Option<Result<Claims, String>>,
}

/// What the `Authorization` header and its companions say. Signatures of static keys are not verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// Access key id.
    pub access_key: String,
    /// `X-Amz-Security-Token`, which temporary credentials carry.
    pub session_token: Option<String>,
    /// `X-Amz-Date` as time since the Unix epoch.
    pub signed_at: Option<Duration>,
    /// First token of `User-Agent`, for the log.
    pub agent: String,
}

/// Claims of a web identity token whose signature, issuer and expiry the shell has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `sub`, for example `system:serviceaccount:sluice-system:sluice-registrar`.
    pub subject: String,
    /// `aud`.
    pub audience: Vec<String>,
    /// `iss`.
    pub issuer: String,
}

/// What to answer, how and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Goes into the body and the header `x-amzn-requestid`.
    pub request_id: String,
    /// HTTP status.
    pub status: u16,
    /// What was answered.
    pub body: Body,
    /// What becomes of the answer on its way.
    pub delivery: Delivery,
}

/// The body of a reply, to be rendered as its service's XML.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// The operation succeeded.
    Result {
        /// The operation, which names the root element.
        action: &'static str,
        /// Its result: a record, empty for operations that answer nothing.
        value: Value,
    },
    /// The operation failed.
    Error {
        /// AWS's code, for example `TargetGroupNotFound`.
        code: String,
        /// AWS's message.
        message: String,
    },
}

/// What happens to a reply after its operation took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivery {
    /// How long it takes to arrive, in model time.
    pub after: Duration,
    /// Whether it is lost: the connection is closed without a byte of the answer.
    pub lost: bool,
}

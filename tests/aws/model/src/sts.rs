//! STS: roles for service accounts, and who one is.

use std::time::Duration;

use crate::{
    Claims, Model,
    fault::{Code, Result},
    identity::{Identity, Session, timestamp},
    limits::Bucket,
    operations::Operation,
    schema::{Input, Kind, optional, required},
    value::{Builder, record},
};

pub(crate) const OPERATIONS: &[&Operation] = &[&ASSUME_ROLE, &ASSUME_ROLE_WITH_WEB_IDENTITY, &GET_CALLER_IDENTITY];

const ROLE_ARN: Kind = Kind::Text { min: 20, max: 2048 };
const SESSION_NAME: Kind = Kind::Text { min: 2, max: 64 };
const SECONDS: Kind = Kind::int(900, 43200);
/// The audience of tokens for AWS.
const AUDIENCE: &str = "sts.amazonaws.com";

const ASSUME_ROLE: Operation = Operation {
    name: "AssumeRole",
    bucket: Bucket::Sts,
    accepts: &[
        required("RoleArn", ROLE_ARN),
        required("RoleSessionName", SESSION_NAME),
        optional("DurationSeconds", SECONDS),
        optional("ExternalId", Kind::Text { min: 2, max: 1224 }),
    ],
    refuses: &[],
    run: |model, input| {
        let arn = input.need("RoleArn");
        if !model.world.roles.iter().any(|role| role.arn == arn) {
            let caller = &input.caller.arn;
            return Code::AccessDenied
                .refuse(format!("User: {caller} is not authorized to perform: sts:AssumeRole on resource: {arn}"));
        }
        Ok(model.issue(input).done())
    },
};

const ASSUME_ROLE_WITH_WEB_IDENTITY: Operation = Operation {
    name: "AssumeRoleWithWebIdentity",
    bucket: Bucket::Sts,
    accepts: &[
        required("RoleArn", ROLE_ARN),
        required("RoleSessionName", SESSION_NAME),
        required("WebIdentityToken", Kind::Text { min: 4, max: 20000 }),
        optional("DurationSeconds", SECONDS),
        optional("ProviderId", Kind::Text { min: 4, max: 2048 }),
    ],
    refuses: &[Code::InvalidIdentityToken],
    run: |model, input| {
        let claims = match &input.token {
            Some(Ok(claims)) => claims,
            Some(Err(why)) => return Code::InvalidIdentityToken.refuse(why),
            None => return Code::InvalidIdentityToken.refuse("The token was not read"),
        };
        model.check_trust(input.need("RoleArn"), claims)?;
        let session = model.issue(input);
        let about = session.with("SubjectFromWebIdentityToken", claims.subject.as_str());
        Ok(about.with("Provider", claims.issuer.as_str()).with("Audience", AUDIENCE).done())
    },
};

const GET_CALLER_IDENTITY: Operation = Operation {
    name: "GetCallerIdentity",
    bucket: Bucket::Sts,
    accepts: &[],
    refuses: &[],
    run: |model, input| {
        let Identity { arn, user_id } = &input.caller;
        let account = model.world.account.as_str();
        Ok(record! { "UserId": user_id.as_str(), "Account": account, "Arn": arn.as_str() })
    },
};

impl Model {
    /// The trust policy that EKS has users write: the token is meant for STS and names a service account of the role.
    fn check_trust(&self, role: &str, claims: &Claims) -> Result<()> {
        if !claims.audience.iter().any(|a| a == AUDIENCE) {
            return Code::InvalidIdentityToken.refuse("Incorrect token audience");
        }
        let account = claims.subject.strip_prefix("system:serviceaccount:").unwrap_or_default();
        let trusted = self.world.roles.iter().find(|r| r.arn == role);
        if trusted.is_some_and(|r| r.service_accounts.iter().any(|a| a == account)) {
            Ok(())
        } else {
            Code::AccessDenied.refuse("Not authorized to perform sts:AssumeRoleWithWebIdentity")
        }
    }

    /// New credentials for the role and session name of a request.
    fn issue(&mut self, input: &Input) -> Builder {
        let (role, session_name) = (input.need("RoleArn"), input.need("RoleSessionName"));
        let name = role.rsplit('/').next().unwrap_or(role);
        let account = role.split(':').nth(4).unwrap_or(&self.world.account).to_owned();
        let arn = format!("arn:aws:sts::{account}:assumed-role/{name}/{session_name}");
        let access_key = format!("ASIA{}", self.random.hex(16).to_ascii_uppercase());
        let secret: String = (0..3).map(|_| self.random.hex(16)).collect();
        let token: String = (0..8).map(|_| self.random.hex(16)).collect();
        let user_id = format!("AROA{}:{session_name}", self.random.hex(16).to_ascii_uppercase());
        let lasts = Duration::from_secs(input.number("DurationSeconds").unwrap_or(3600));
        let expires = self.wall() + lasts;
        let credentials = record! {
            "AccessKeyId": access_key.as_str(),
            "SecretAccessKey": secret,
            "SessionToken": token.as_str(),
            "Expiration": timestamp(expires),
        };
        let user = record! { "AssumedRoleId": user_id.as_str(), "Arn": arn.as_str() };
        self.sessions.insert(access_key, Session { token, identity: Identity { arn, user_id }, expires });
        Builder::default().with("Credentials", credentials).with("AssumedRoleUser", user)
    }
}

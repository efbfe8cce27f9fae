//! From settings, environment and profile to clients: one session for each account that calls are made in.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_config::{
    BehaviorVersion, Region, SdkConfig,
    ecs::EcsCredentialsProvider,
    environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider},
    identity::IdentityCache,
    imds::{credentials::ImdsCredentialsProvider, region::ImdsRegionProvider},
    meta::{credentials::CredentialsProviderChain, region::RegionProviderChain},
    profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider},
    provider_config::ProviderConfig,
    retry::RetryConfig,
    stalled_stream_protection::StalledStreamProtectionConfig,
    sts::AssumeRoleProvider,
    timeout::TimeoutConfig,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_elasticloadbalancingv2 as elbv2;
use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::SharedHttpClient, identity::SharedIdentityCache, runtime_components::RuntimeComponents,
};
use aws_types::app_name::AppName;
use registrar_core::aws::{Account, Call, Fault, Reply};

use super::{
    Identity,
    ec2::{self, Ec2},
    elb,
    exchange::Exchange,
    settings::Settings,
    standing::Problem,
};

/// Behaviour of the SDK, pinned: the newest moves.
pub(super) fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// How long a connection may take to come to be.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an idle connection is kept: less than AWS keeps it, so that no write meets one that is just being closed and is
/// left without an answer.
const IDLE: Duration = Duration::from_secs(20);
/// How long before their end credentials are replaced.
const REFRESH: Duration = Duration::from_mins(2);

/// Clients that share an identity.
#[derive(Debug)]
pub(super) struct Session {
    elb: elbv2::Client,
    ec2: Ec2,
    sts: aws_sdk_sts::Client,
    config: SdkConfig,
}

impl Session {
    fn new(config: SdkConfig) -> Self {
        Self {
            elb: elbv2::Client::new(&config),
            ec2: Ec2::new(&config),
            sts: aws_sdk_sts::Client::new(&config),
            config,
        }
    }

    /// The same identity with credentials that are asked for anew. What is under way goes on with the old ones.
    pub(super) fn renewed(&self) -> Self {
        Self::new(self.config.to_builder().identity_cache(identity_cache()).build())
    }

    pub(super) async fn carry_out(&self, exchange: &Exchange<'_>, call: &Call) -> Result<Reply, Fault> {
        if ec2::is_of_ec2(call) {
            ec2::carry_out(&self.ec2, exchange, call).await
        } else {
            elb::carry_out(&self.elb, exchange, call).await
        }
    }

    pub(super) async fn identity(&self, exchange: &Exchange<'_>) -> Result<Identity, Fault> {
        let call = self.sts.get_caller_identity();
        let reply = exchange.request(|sent| call.customize().interceptor(sent).send()).await?;
        Ok(Identity { arn: reply.arn.unwrap_or_default(), account: reply.account.unwrap_or_default() })
    }

    pub(super) fn region(&self) -> Option<&str> {
        self.config.region().map(AsRef::as_ref)
    }
}

/// The sessions of all accounts, or why there are none. Credentials are not asked for before a call needs them.
pub(super) async fn open(settings: &Settings) -> Result<BTreeMap<Account, Arc<Session>>, Problem> {
    let config = config(settings).await;
    if config.region().is_none_or(|region| region.as_ref().is_empty()) {
        return Err(Problem::NoRegion);
    }
    let mut sessions = BTreeMap::new();
    for (name, role) in &settings.roles {
        let provider = AssumeRoleProvider::builder(&role.role_arn).session_name(settings.session_name());
        let provider = match &role.external_id {
            Some(id) => provider.external_id(id),
            None => provider,
        };
        let provider = SharedCredentialsProvider::new(provider.configure(&config).build().await);
        let config = config.to_builder().credentials_provider(provider).identity_cache(identity_cache()).build();
        sessions.insert(Account::Role(Arc::clone(name)), Arc::new(Session::new(config)));
    }
    sessions.insert(Account::Own, Arc::new(Session::new(config)));
    Ok(sessions)
}

async fn config(settings: &Settings) -> SdkConfig {
    // Metadata services are on the link: no proxy leads to them.
    let (outside, on_link) = (http_client(ProxyConfig::from_env()), http_client(ProxyConfig::disabled()));
    let near = ProviderConfig::without_region().with_http_client(on_link);
    let mut loader = aws_config::defaults(behavior())
        .region(region(settings, &near).await)
        .http_client(outside.clone())
        // One budget and one backoff, in the core.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
        // Answers are small, and each request has a deadline.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .identity_cache(identity_cache())
        .no_credentials();
    if let Ok(name) = AppName::new("sluice-registrar") {
        loader = loader.app_name(name);
    }
    if let Some(url) = &settings.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    let config = loader.load().await;
    let credentials = settings.credentials.clone().unwrap_or_else(|| {
        let adapt = |provider: ProviderConfig| {
            let provider = provider.with_region(config.region().cloned());
            provider.with_use_fips(config.use_fips()).with_use_dual_stack(config.use_dual_stack())
        };
        let far = adapt(ProviderConfig::without_region().with_http_client(outside));
        SharedCredentialsProvider::new(chain(&far, &adapt(near), settings.imds))
    });
    config.into_builder().credentials_provider(credentials).build()
}

/// Where credentials come from, in the order in which every client of AWS looks, without the instance's metadata unless it
/// is allowed.
fn chain(far: &ProviderConfig, near: &ProviderConfig, imds: bool) -> CredentialsProviderChain {
    let chain = CredentialsProviderChain::first_try("environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("profile", ProfileFileCredentialsProvider::builder().configure(far).build())
        .or_else("web identity", WebIdentityTokenCredentialsProvider::builder().configure(far).build())
        .or_else("pod identity", EcsCredentialsProvider::builder().configure(near).build());
    if imds { chain.or_else("instance", ImdsCredentialsProvider::builder().configure(near).build()) } else { chain }
}

async fn region(settings: &Settings, near: &ProviderConfig) -> Option<Region> {
    let of = |name: &String| (!name.is_empty()).then(|| Region::new(name.clone()));
    let chain = RegionProviderChain::first_try(settings.region.as_ref().and_then(of))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::builder().configure(near).build());
    let chain =
        if settings.imds { chain.or_else(ImdsRegionProvider::builder().configure(near).build()) } else { chain };
    chain.region().await
}

fn identity_cache() -> SharedIdentityCache {
    IdentityCache::lazy().buffer_time(REFRESH).build()
}

fn http_client(proxy: ProxyConfig) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder()
            .proxy_config(proxy.clone())
            .pool_idle_timeout(IDLE)
            .tls_provider(Provider::Rustls(CryptoMode::Ring));
        if let Some(settings) = settings {
            connector = connector.connector_settings(settings.clone());
        }
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build()
    })
}

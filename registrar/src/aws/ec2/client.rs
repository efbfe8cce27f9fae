//! The client: signing, sending, and telling XML from what is none.

use std::fmt;

use aws_config::SdkConfig;
use aws_runtime::{
    auth::{
        SigV4OperationSigningConfig,
        sigv4::{SCHEME_ID, SigV4AuthScheme},
    },
    invocation_id::InvocationIdInterceptor,
    service_clock_skew::ServiceClockSkewInterceptor,
    user_agent::{ApiMetadata, UserAgentInterceptor},
};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        auth::{AuthSchemeOptionResolverParams, SharedAuthScheme, static_resolver::StaticAuthSchemeOptionResolver},
        identity::SharedIdentityResolver,
        interceptors::SharedInterceptor,
        orchestrator::{HttpRequest, HttpResponse, OrchestratorError},
        result::SdkError,
        runtime_components::RuntimeComponentsBuilder,
        runtime_plugin::{SharedRuntimePlugin, StaticRuntimePlugin},
    },
};
use aws_smithy_types::{
    body::SdkBody,
    config_bag::Layer,
    error::{ErrorMetadata, metadata::ProvideErrorMetadata},
};
use aws_types::{SigningName, region::SigningRegion};
use quick_xml::{Reader, events::Event};
use registrar_core::aws::Fault;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::OnceCell;

use super::{endpoint, form::Form};
use crate::aws::{
    exchange::{Exchange, Sent},
    session::behavior,
};

/// Version of what is sent, for `User-Agent`.
const API: ApiMetadata = ApiMetadata::new("ec2", env!("CARGO_PKG_VERSION"));

/// A client of EC2.
#[derive(Debug)]
pub(in crate::aws) struct Ec2 {
    config: SdkConfig,
    endpoint: OnceCell<String>,
    /// Identity, signing and what is learned of AWS's clock, shared by all requests.
    plugin: SharedRuntimePlugin,
}

impl Ec2 {
    pub(in crate::aws) fn new(config: &SdkConfig) -> Self {
        let mut layer = Layer::new("ec2");
        layer.store_put(AuthSchemeOptionResolverParams::new(()));
        layer.store_put(SigningName::from_static("ec2"));
        layer.store_put(SigV4OperationSigningConfig::default());
        layer.store_put(API);
        if let Some(region) = config.region() {
            layer.store_put(SigningRegion::from(region.clone()));
        }
        if let Some(name) = config.app_name() {
            layer.store_put(name.clone());
        }
        let mut components = RuntimeComponentsBuilder::new("ec2")
            .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID])))
            .with_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()))
            .with_identity_cache(config.identity_cache())
            .with_interceptor(SharedInterceptor::new(ServiceClockSkewInterceptor::new()))
            .with_interceptor(SharedInterceptor::new(UserAgentInterceptor::new()))
            .with_interceptor(SharedInterceptor::new(InvocationIdInterceptor::new()));
        if let Some(provider) = config.credentials_provider() {
            components = components.with_identity_resolver(SCHEME_ID, SharedIdentityResolver::new(provider));
        }
        let plugin = StaticRuntimePlugin::new().with_config(layer.freeze()).with_runtime_components(components);
        Self { config: config.clone(), endpoint: OnceCell::new(), plugin: SharedRuntimePlugin::new(plugin) }
    }

    async fn send<O>(
        &self,
        operation: &'static str,
        body: String,
        sent: Sent,
    ) -> Result<O, SdkError<Ec2Error, HttpResponse>>
    where
        O: DeserializeOwned + fmt::Debug + Send + Sync + 'static,
    {
        let endpoint = self.endpoint.get_or_try_init(|| endpoint::of(&self.config)).await;
        let endpoint = endpoint.map_err(SdkError::construction_failure)?;
        let mut builder = Operation::builder()
            .service_name("EC2")
            .operation_name(operation)
            .behavior_version(behavior())
            .endpoint_url(endpoint)
            .no_retry()
            .with_connection_poisoning()
            .interceptor(sent)
            .runtime_plugin(self.plugin.clone());
        let config = &self.config;
        if let Some(timeouts) = config.timeout_config() {
            builder = builder.timeout_config(timeouts.clone());
        }
        if let (Some(http), Some(sleep), Some(time)) = (config.http_client(), config.sleep_impl(), config.time_source())
        {
            builder = builder.http_client(http).sleep_impl(sleep).time_source(time);
        }
        let operation = builder
            .serializer(request)
            .deserializer(move |response: &HttpResponse| read::<O>(operation, response))
            .build();
        operation.invoke(body).await
    }
}

/// What is asked, page by page.
pub(super) struct Request<'a> {
    pub(super) client: &'a Ec2,
    pub(super) exchange: &'a Exchange<'a>,
    pub(super) operation: &'static str,
    pub(super) form: Form,
}

impl Request<'_> {
    /// One answer.
    pub(super) async fn once<O>(&self, from: Option<&str>) -> Result<O, Fault>
    where
        O: DeserializeOwned + fmt::Debug + Send + Sync + 'static,
    {
        let body = self.form.body(self.operation, from);
        self.exchange.request(|sent| self.client.send(self.operation, body, sent)).await
    }

    /// All pages of a list: `split` takes an answer apart into what is on the page and the token of the next one.
    pub(super) async fn all<O, T>(&self, split: fn(O) -> (Vec<T>, Option<String>)) -> Result<Vec<T>, Fault>
    where
        O: DeserializeOwned + fmt::Debug + Send + Sync + 'static,
    {
        self.exchange.pages(|from| async move { self.once(from.as_deref()).await.map(split) }).await
    }
}

fn request(body: String) -> Result<HttpRequest, BoxError> {
    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_method("POST")?;
    request.set_uri("/")?;
    request.headers_mut().insert("content-type", "application/x-www-form-urlencoded");
    Ok(request)
}

fn read<O: DeserializeOwned>(operation: &str, response: &HttpResponse) -> Result<O, OrchestratorError<Ec2Error>> {
    let text = std::str::from_utf8(response.body().bytes().unwrap_or_default()).map_err(OrchestratorError::other)?;
    if !response.status().is_success() {
        // Without a code it is not from EC2: a proxy's page, say.
        let meta = quick_xml::de::from_str::<Refused>(text).map(Refused::meta).unwrap_or_default();
        return Err(OrchestratorError::operation(Ec2Error(meta)));
    }
    let root = root(text);
    if root.as_deref().and_then(|root| root.strip_suffix("Response")) != Some(operation) {
        let root = root.unwrap_or_default();
        return Err(OrchestratorError::other(format!("an answer <{root}> instead of <{operation}Response>")));
    }
    quick_xml::de::from_str(text).map_err(OrchestratorError::other)
}

/// Name of a document's root element.
fn root(text: &str) -> Option<String> {
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) | Event::Empty(element) => {
                return Some(element.local_name().as_ref().to_owned());
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// An error reply of EC2.
#[derive(Debug)]
pub(in crate::aws) struct Ec2Error(ErrorMetadata);

impl fmt::Display for Ec2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code().unwrap_or("no code"), self.0.message().unwrap_or_default())
    }
}

impl std::error::Error for Ec2Error {}

impl ProvideErrorMetadata for Ec2Error {
    fn meta(&self) -> &ErrorMetadata {
        &self.0
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refused {
    errors: Errors,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Errors {
    error: Vec<OneError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneError {
    code: String,
    #[serde(default)]
    message: String,
}

impl Refused {
    fn meta(self) -> ErrorMetadata {
        let first = self.errors.error.into_iter().next();
        let meta = first.map(|error| ErrorMetadata::builder().code(error.code).message(error.message).build());
        meta.unwrap_or_default()
    }
}

//! Where EC2 is.

use aws_config::SdkConfig;
use aws_sdk_elasticloadbalancingv2::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
use aws_types::service_config::ServiceConfigKey;

/// The URL for a configuration: that of `AWS_ENDPOINT_URL_EC2`, `AWS_ENDPOINT_URL` or the profile, or AWS's own.
pub(super) async fn of(config: &SdkConfig) -> Result<String, String> {
    let general = config.endpoint_url().map(ToOwned::to_owned);
    // What code has set beats the environment, as with every client of the SDK.
    if config.get_origin("endpoint_url").is_client_config()
        && let Some(url) = general
    {
        return Ok(url);
    }
    let key = ServiceConfigKey::builder().service_id("EC2").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let own = key.ok().and_then(|key| config.service_config()?.load_config(key));
    if let Some(url) = own.or(general) {
        return Ok(url);
    }
    let region = config.region().map(ToString::to_string).unwrap_or_default();
    in_region(&region, config.use_fips().unwrap_or_default(), config.use_dual_stack().unwrap_or_default()).await
}

/// AWS's endpoint in a region. Which partition a region is of, and its names, stand in one table: that of the SDK. It is
/// asked where ELBv2 is, whose names differ from EC2's only in their first label.
async fn in_region(region: &str, fips: bool, dual_stack: bool) -> Result<String, String> {
    let params = Params::builder().region(region).use_fips(fips).use_dual_stack(dual_stack).build();
    let params = params.map_err(|error| error.to_string())?;
    let endpoint = DefaultResolver::new().resolve_endpoint(&params).await.map_err(|error| error.to_string())?;
    let url = endpoint.url();
    let Some(rest) = url.strip_prefix("https://elasticloadbalancing") else {
        return Err(format!("no endpoint of EC2 is known for region {region}; set AWS_ENDPOINT_URL_EC2"));
    };
    Ok(format!("https://ec2{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn partitions_have_their_own_names() {
        let cases = [
            ("ap-northeast-2", false, false, "https://ec2.ap-northeast-2.amazonaws.com"),
            ("eu-west-1", false, true, "https://ec2.eu-west-1.api.aws"),
            ("us-east-1", true, false, "https://ec2-fips.us-east-1.amazonaws.com"),
            ("us-east-1", true, true, "https://ec2-fips.us-east-1.api.aws"),
            ("cn-north-1", false, false, "https://ec2.cn-north-1.amazonaws.com.cn"),
            ("us-gov-west-1", false, false, "https://ec2.us-gov-west-1.amazonaws.com"),
            ("us-gov-west-1", true, false, "https://ec2.us-gov-west-1.amazonaws.com"),
            ("us-iso-east-1", false, false, "https://ec2.us-iso-east-1.c2s.ic.gov"),
            ("eusc-de-east-1", false, false, "https://ec2.eusc-de-east-1.amazonaws.eu"),
        ];
        for (region, fips, dual_stack, url) in cases {
            assert_eq!(in_region(region, fips, dual_stack).await.as_deref(), Ok(url), "{region}");
        }
    }
}

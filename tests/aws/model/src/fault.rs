//! Refusals: AWS's codes, each with its HTTP status, and the messages that clients match on.

use crate::Service;

/// A refused call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// Why an operation refused, or what it answers.
pub(crate) type Result<T> = std::result::Result<T, Fault>;

macro_rules! codes {
    ($($variant:ident $wire:literal $status:literal)*) => {
        /// Every error code that is answered.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Code { $($variant,)* }

        impl Code {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As clients see it.
            pub(crate) const fn wire(self) -> &'static str {
                match self { $(Self::$variant => $wire,)* }
            }

            /// The HTTP status that it comes with.
            pub(crate) const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
        }
    };
}

codes! {
    // ELBv2, as its API model names them. Some only a test can provoke, by ordering them.
    AllocationIdNotFound "AllocationIdNotFound" 400
    AlpnPolicyNotSupported "ALPNPolicyNotFound" 400
    CapacityDecreaseRequestLimitExceeded "CapacityDecreaseRequestLimitExceeded" 400
    CapacityReservationPending "CapacityReservationPending" 400
    CapacityUnitsLimitExceeded "CapacityUnitsLimitExceeded" 400
    AvailabilityZoneNotSupported "AvailabilityZoneNotSupported" 400
    DuplicateListener "DuplicateListener" 400
    DuplicateLoadBalancerName "DuplicateLoadBalancerName" 400
    DuplicateTagKeys "DuplicateTagKeys" 400
    DuplicateTargetGroupName "DuplicateTargetGroupName" 400
    HealthUnavailable "HealthUnavailable" 500
    IncompatibleProtocols "IncompatibleProtocols" 400
    InsufficientCapacity "InsufficientCapacity" 500
    InvalidConfigurationRequest "InvalidConfigurationRequest" 400
    InvalidLoadBalancerAction "InvalidLoadBalancerAction" 400
    InvalidScheme "InvalidScheme" 400
    InvalidSecurityGroup "InvalidSecurityGroup" 400
    InvalidSubnet "InvalidSubnet" 400
    InvalidTarget "InvalidTarget" 400
    ListenerNotFound "ListenerNotFound" 400
    LoadBalancerNotFound "LoadBalancerNotFound" 400
    OperationNotPermitted "OperationNotPermitted" 400
    PriorRequestNotComplete "PriorRequestNotComplete" 429
    ResourceInUse "ResourceInUse" 400
    RuleNotFound "RuleNotFound" 400
    SslPolicyNotFound "SSLPolicyNotFound" 400
    CertificateNotFound "CertificateNotFound" 400
    SubnetNotFound "SubnetNotFound" 400
    TargetGroupAssociationLimit "TargetGroupAssociationLimit" 400
    TargetGroupNotFound "TargetGroupNotFound" 400
    TooManyActions "TooManyActions" 400
    TooManyCertificates "TooManyCertificates" 400
    TooManyListeners "TooManyListeners" 400
    TooManyLoadBalancers "TooManyLoadBalancers" 400
    TooManyRegistrationsForTargetId "TooManyRegistrationsForTargetId" 400
    TooManyTags "TooManyTags" 400
    TooManyTargetGroups "TooManyTargetGroups" 400
    TooManyTargets "TooManyTargets" 400
    TooManyUniqueTargetGroups "TooManyUniqueTargetGroupsPerLoadBalancer" 400
    UnsupportedProtocol "UnsupportedProtocol" 400
    // Common to query services.
    AccessDenied "AccessDenied" 403
    ExpiredToken "ExpiredToken" 403
    IncompleteSignature "IncompleteSignature" 400
    InternalFailure "InternalFailure" 500
    InvalidAction "InvalidAction" 400
    InvalidClientTokenId "InvalidClientTokenId" 403
    MalformedInput "MalformedInput" 400
    MalformedQueryString "MalformedQueryString" 404
    MissingAction "MissingAction" 400
    MissingAuthenticationToken "MissingAuthenticationToken" 403
    RequestExpired "RequestExpired" 400
    ServiceUnavailable "ServiceUnavailable" 503
    Throttling "Throttling" 400
    ThrottlingException "ThrottlingException" 400
    ValidationError "ValidationError" 400
    // EC2.
    AddressNotFound "InvalidAllocationID.NotFound" 400
    AddressInUse "InvalidIPAddress.InUse" 400
    AuthFailure "AuthFailure" 401
    DependencyViolation "DependencyViolation" 400
    GroupDuplicate "InvalidGroup.Duplicate" 400
    GroupMalformed "InvalidGroupId.Malformed" 400
    GroupNotFound "InvalidGroup.NotFound" 400
    IdNotFound "InvalidID" 400
    InstanceMalformed "InvalidInstanceID.Malformed" 400
    InstanceNotFound "InvalidInstanceID.NotFound" 400
    InterfaceNotFound "InvalidNetworkInterfaceID.NotFound" 400
    InternalError "InternalError" 500
    InvalidParameterCombination "InvalidParameterCombination" 400
    InvalidParameterValue "InvalidParameterValue" 400
    MissingParameter "MissingParameter" 400
    PermissionDuplicate "InvalidPermission.Duplicate" 400
    PermissionMalformed "InvalidPermission.Malformed" 400
    PermissionNotFound "InvalidPermission.NotFound" 400
    RequestLimitExceeded "RequestLimitExceeded" 503
    RouteTableNotFound "InvalidRouteTableID.NotFound" 400
    RulesLimitExceeded "RulesPerSecurityGroupLimitExceeded" 400
    SecurityGroupLimitExceeded "SecurityGroupLimitExceeded" 400
    SubnetIdNotFound "InvalidSubnetID.NotFound" 400
    TagLimitExceeded "TagLimitExceeded" 400
    VpcNotFound "InvalidVpcID.NotFound" 400
    // STS.
    InvalidIdentityToken "InvalidIdentityToken" 400
}

impl Code {
    /// The refusal with this code.
    pub(crate) fn because(self, message: impl Into<String>) -> Fault {
        Fault { code: self, message: message.into() }
    }

    /// The refusal with this code, as a result.
    pub(crate) fn refuse<T>(self, message: impl Into<String>) -> Result<T> {
        Err(self.because(message))
    }
}

/// Whether any operation of a service may answer this code, without naming it in its own list.
pub(crate) fn common(service: Service, code: Code) -> bool {
    use Code as C;
    match service {
        Service::Elb | Service::Sts => matches!(
            code,
            C::AccessDenied
                | C::ExpiredToken
                | C::IncompleteSignature
                | C::InternalFailure
                | C::InvalidAction
                | C::InvalidClientTokenId
                | C::MalformedInput
                | C::MalformedQueryString
                | C::MissingAction
                | C::MissingAuthenticationToken
                | C::RequestExpired
                | C::ServiceUnavailable
                | C::Throttling
                | C::ThrottlingException
                | C::ValidationError
        ),
        Service::Ec2 => matches!(
            code,
            C::AccessDenied
                | C::AuthFailure
                | C::ExpiredToken
                | C::InternalError
                | C::InvalidAction
                | C::InvalidParameterCombination
                | C::InvalidParameterValue
                | C::MalformedQueryString
                | C::MissingParameter
                | C::RequestExpired
                | C::RequestLimitExceeded
                | C::ServiceUnavailable
        ),
    }
}

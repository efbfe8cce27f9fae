//! What Kubernetes objects say about a Network Load Balancer: the one parser that admission and controller share.
//!
//! - [`annotations`]: the table of every annotation, and how values are read and checked.
//! - [`service`]: Service to [`service::LoadBalancerSpec`], with everything that is wrong with it.
//! - [`targetgroupbinding`]: the custom resource, its definition and its rules.
//! - [`prediction`], [`readiness_gate`]: which gates a pod gets, told before its target groups exist.
//! - [`names`], [`tags`]: names and tags of AWS resources, exactly as the peer (aws-load-balancer-controller) has them.
//! - [`drain`]: how long pods serve on after they are told to stop.
//! - [`settings`]: what the model depends on besides the objects.
//! - [`violation`]: what is said of what is wrong.
//!
//! Nothing here does I/O, reads a clock or keeps state: the same values in give the same values out.

pub mod annotations;
pub mod drain;
pub mod names;
pub mod prediction;
pub mod readiness_gate;
pub mod service;
pub mod settings;
pub mod tags;
pub mod targetgroupbinding;
pub mod violation;

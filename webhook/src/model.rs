//! The settings of the model, from a file and from flags.

use daemon::settings::{self as file, said};
use nlb::settings::ModelSettings;

use crate::cli::Model;

/// Reads the file, if there is one, and puts the flags over it.
pub fn settings(model: &Model) -> Result<ModelSettings, file::Error> {
    let mut settings: ModelSettings = file::read(model.settings.as_deref())?;
    if let Some(name) = said(model.cluster_name.as_deref()) {
        name.clone_into(&mut settings.cluster_name);
    }
    if let Some(region) = said(model.region.as_deref()) {
        settings.region = Some(region.to_owned());
    }
    if let Some(class) = said(model.load_balancer_class.as_deref()) {
        class.clone_into(&mut settings.load_balancer_class);
    }
    Ok(settings)
}

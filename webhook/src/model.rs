//! The settings of the model, from a file and from flags.

use std::path::PathBuf;

use nlb::settings::ModelSettings;

use crate::cli::Model;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("settings {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not hold settings.
    #[error("settings {}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<serde_saphyr::Error>,
    },
}

/// Reads the file, if there is one, and puts the flags over it.
pub fn settings(model: &Model) -> Result<ModelSettings, Error> {
    let mut settings = match &model.settings {
        None => ModelSettings::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.clone(), source })?;
            serde_saphyr::from_str(&text)
                .map_err(|source| Error::Parse { path: path.clone(), source: Box::new(source) })?
        }
    };
    if let Some(name) = &model.cluster_name {
        settings.cluster_name.clone_from(name);
    }
    if model.region.is_some() {
        settings.region.clone_from(&model.region);
    }
    if let Some(class) = &model.load_balancer_class {
        settings.load_balancer_class.clone_from(class);
    }
    Ok(settings)
}

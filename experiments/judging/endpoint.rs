//! The judge `openai:URL`: a model behind an endpoint that speaks the OpenAI API.

use std::path::PathBuf;

use exalign::files::cache_folder;
use exalign::judges::Endpoint;
use serde_json::json;

use super::kind::{Behind, Kind, Reads};

pub const KIND: Kind = Kind {
    name: "openai",
    command: Some(Behind::Argument("URL")),
    experiment: Some(Behind::Argument("URL")),
    needs_labels: false,
    shaping: |url, settings| {
        let mut shaping = json!(settings.judge);
        if let Some(fields) = shaping.as_object_mut() {
            fields.retain(|key, _| SHAPING.contains(&key.as_str()));
        }
        shaping["url"] = json!(url);
        json!({ "judge": shaping })
    },
    reads: |_, settings| {
        let template = PathBuf::from(&settings.judge.template);
        template.is_file().then_some(Reads::File("template", template.into()))
    },
    // Its answers are kept where everything else is.
    open: |url, asked| Ok(Box::new(Endpoint::new(url, &asked.settings, &cache_folder())?)),
};

/// The settings that verdicts depend on; how they are asked for does not count.
const SHAPING: [&str; 6] =
    ["model", "template", "extra", "temperature", "max_tokens", "max_completion_tokens"];

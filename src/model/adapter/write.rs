//! The folder that PEFT loads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::tensor::DType;
use serde_json::json;

use super::factors::{Factors, Matrix, packed};
use super::{Adapters, CONFIG, LoraConfig, NOTES, PREFIX, WEIGHTS, last_name, module_name};
use crate::Result;
use crate::data::RewardReading;
use crate::files::write_json;
use crate::model::families::{Binding, SCORE};
use crate::model::reward_model::READS;
use crate::model::weights::{Packing, write_tensors};

/// What a PEFT folder says of the model its adapters belong to.
#[derive(Clone, Copy, Debug)]
pub struct AdapterTarget<'a> {
    /// Where each parameter of the model is stored.
    pub bindings: &'a [Binding],
    /// The folder or hub id of the model.
    pub base: &'a str,
    /// How the reward model reads, where it is one.
    pub reward: Option<RewardReading>,
    /// What the factors are written as: F32, F16 or BF16.
    pub dtype: DType,
}

impl Adapters {
    /// Writes the folder that `peft` loads.
    ///
    /// # Errors
    /// If it cannot be written, or a value is not finite.
    pub fn write(&self, config: &LoraConfig, target: AdapterTarget, folder: &Path) -> Result<()> {
        crate::files::create_dir(folder)?;
        let mut tensors = BTreeMap::new();
        let (mut modules, mut ranks, mut alphas) =
            (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        for binding in target.bindings {
            let parts: Vec<&Factors> =
                binding.parameters.iter().filter_map(|it| self.factors.get(it)).collect();
            if parts.is_empty() {
                continue;
            }
            let module = module_name(binding);
            let packing = Packing::new(binding, parts.iter().map(|part| part.b.columns).collect());
            let (a, b) = packed(&parts, &packing);
            modules.insert(last_name(binding));
            // Where a tensor holds several parameters, each has its share of the ranks.
            let own = a.rows as f64;
            let alpha = parts[0].scale * if config.rslora { own.sqrt() } else { own };
            if a.rows != config.rank {
                ranks.insert(module, a.rows);
            }
            if (alpha - config.alpha).abs() > 1e-9 * config.alpha {
                alphas.insert(module, alpha);
            }
            for (factor, Matrix { rows, columns, values }) in [("A", a), ("B", b)] {
                let name = format!("{PREFIX}{module}.lora_{factor}.weight");
                tensors.insert(name, (vec![rows, columns], values));
            }
        }
        if let Some((_, score)) = &self.score {
            // Stored [labels, hidden], and a single label's row is its column.
            let shape = vec![score.columns, score.rows];
            tensors.insert(format!("{PREFIX}{SCORE}"), (shape, score.values.clone()));
        }
        let targets: Vec<&str> = modules.into_iter().collect();
        let given = &config.target_modules;
        let mut settings = json!({
                "peft_type": "LORA",
                "task_type": if target.reward.is_some() { "SEQ_CLS" } else { "CAUSAL_LM" },
                "base_model_name_or_path": target.base,
                "r": config.rank,
                "lora_alpha": config.alpha,
                "lora_dropout": config.dropout,
                "bias": "none",
                "fan_in_fan_out": target.bindings.iter().any(|it| it.is_adapted(&[]) && !it.transposed),
                "target_modules": if given.is_empty() { json!(targets) } else { json!(given) },
                "rank_pattern": ranks,
                "alpha_pattern": alphas,
                "modules_to_save": if self.score.is_some() { json!(["score"]) } else { json!(null) },
                "inference_mode": true,
                "use_rslora": config.rslora,
                "use_dora": false,
        });
        if let Some(reading) = target.reward {
            // PEFT warns of keys that it does not know. It knows this one, and passes over it where
            // there is a task type.
            settings[NOTES] = json!({ READS: reading.name() });
        }
        write_json(&folder.join(CONFIG), &settings)?;
        write_tensors(tensors, target.dtype, &folder.join(WEIGHTS))
    }
}

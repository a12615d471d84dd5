//! Between EXO and DPO on preferences: the α-divergence from the smoothed preference, over each pair.
//!
//!   z = β_π (h_chosen − h_rejected)      q = (σ(z), σ(−z))      p = (1−ε, ε)
//!   loss = (1 − Σ p_i^α q_i^(1−α)) / (α (1 − α))
//!
//! α = 0 is [`ExoPref`](super::ExoPref). α = 1 is DPO with label smoothing ε, and [`Dpo`](super::Dpo) at
//! ε = 0, which any α above 0 allows.
//!
//! Han et al. 2024, "f-PO: Generalizing Preference Optimization with f-divergence Minimization".

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};

use super::alpha_rw::{between, check_alpha};
use super::exo_pref::check_epsilon;
use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, log_sigmoid, margin};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "alpha-pref",
    label: "α-pref",
    about: "the α-divergence from the smoothed preference, between EXO-pref and DPO",
    takes: Takes::Pairs,
    divergence: Divergence::Between,
    reads: &["beta_policy", "epsilon", "alpha"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        check_alpha(config.alpha)?;
        if config.alpha == 0.0 || config.epsilon != 0.0 {
            check_epsilon(config.epsilon)?;
        }
        let log_labels = [(-config.epsilon).ln_1p(), config.epsilon.ln().max(NEVER)];
        let (beta_policy, alpha) = (config.beta_policy, config.alpha);
        Ok(Arc::new(AlphaPref { beta_policy, log_labels, alpha }))
    },
};

/// The log-probability of what never happens, as a number that can be multiplied by 0.
const NEVER: f64 = -1e30;

/// The α-divergence of the policy's preference from the smoothed label over pairs, the first
/// completion chosen.
#[derive(Clone, Debug)]
struct AlphaPref {
    beta_policy: f64,
    /// log p of the chosen and of the rejected completion.
    log_labels: [f64; 2],
    alpha: f64,
}

impl Alignment for AlphaPref {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let z = margin(log_probs, self.beta_policy); //                           [groups, 1]
        let log_q = Tensor::cat(vec![log_sigmoid(z.clone()), log_sigmoid(-z)], 1); // [groups, 2]
        let log_p = self.log_labels(&log_q.clone().detach());
        between(log_q, log_p, self.alpha).mean() //                               [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }

    fn log_target(&self, _: &GroupLogProbs, rewards: &Tensor<2>) -> Option<Tensor<2>> {
        (self.log_labels[1] > NEVER).then(|| self.log_labels(rewards))
    }
}

impl AlphaPref {
    /// log p of every pair, in the shape of `like`, `[groups, 2]`.
    fn log_labels(&self, like: &Tensor<2>) -> Tensor<2> {
        let [groups, _] = like.dims();
        let labels = TensorData::new(self.log_labels.to_vec(), [1, 2]);
        Tensor::<2>::from_data(labels, (&like.device(), like.dtype())).expand([groups, 2])
    }
}

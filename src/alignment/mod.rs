//! stub
use burn::tensor::Tensor;
/// stub
pub struct GroupLogProbs {
    /// p
    pub policy: Tensor<2>,
    /// r
    pub reference: Tensor<2>,
}
/// stub
pub trait Alignment: Clone + std::fmt::Debug + Send {
    /// loss
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1>;
    /// stats
    fn statistics(
        &self,
        _log_probs: &GroupLogProbs,
        _rewards: &Tensor<2>,
    ) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
}

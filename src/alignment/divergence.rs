//! Divergences between a policy's side q and a target p over each group.
//!
//! All take log q and log p, `[groups, K]`, both normalised; log p is constant. All give `[groups, 1]`.

use burn::tensor::Tensor;

/// KL(q ‖ p) of each group.
///
/// Because Σ ∂q_i = 0, the derivative is Σ (log q_i − log p_i − c) ∂q_i for any constant c; the
/// differences are detached and c is the likeliest completion's. Differentiating log q_i as well
/// would add Σ q_i ∂log q_i, which is zero only up to rounding: noise that outgrows the gradient
/// once q is nearly one-hot or log p reaches thousands.
pub(super) fn reverse_kl(log_q: Tensor<2>, log_p: Tensor<2>) -> Tensor<2> {
    let likeliest = log_q.clone().detach().argmax(1); //           [groups, 1]
    let difference = (log_q.clone() - log_p).detach(); //          [groups, K]
    let anchor = difference.clone().gather(1, likeliest); //       [groups, 1]
    (log_q.exp() * (difference - anchor.clone())).sum_dim(1) + anchor
}

/// −Σ p_i log q_i of each group: KL(p ‖ q) and the entropy of p, which no policy changes.
pub(super) fn cross_entropy(log_q: Tensor<2>, log_p: Tensor<2>) -> Tensor<2> {
    -(log_p.exp() * log_q).sum_dim(1)
}

/// KL(p ‖ q) of each group.
pub(super) fn forward_kl(log_q: Tensor<2>, log_p: Tensor<2>) -> Tensor<2> {
    (log_p.clone().exp() * (log_p - log_q)).sum_dim(1)
}

/// The α-divergence (1 − Σ p_i^α q_i^(1−α)) / (α (1 − α)) of each group, 0 < α < 1.
///
/// With s_i = p_i^α q_i^(1−α) the derivative by log q_i is −s_i / α, taken here as (q_i − s_i) / α, which
/// is the same because Σ ∂q_i = 0, and which does not cancel where q ≈ p and α is small. s_i − q_i is
/// computed as tanh(α u_i / 2) (s_i + q_i) with u_i = log p_i − log q_i, which neither overflows nor
/// cancels.
pub(super) fn alpha_divergence(log_q: Tensor<2>, log_p: Tensor<2>, alpha: f64) -> Tensor<2> {
    let constant = log_q.clone().detach();
    let u = log_p.clone() - constant.clone(); //                                  [groups, K]
    let between = (log_p.clone() * alpha + constant.clone() * (1.0 - alpha)).exp(); // s
    let beyond_q = (u.clone() * (alpha / 2.0)).tanh() * (between.clone() + constant.exp()); // s − q
    // 1 − Σ s, of the two differences that sum to it the smaller one.
    let distance = match alpha < 0.5 {
        true => -beyond_q.clone(),
        false => (u * ((1.0 - alpha) / 2.0)).tanh() * (between + log_p.exp()), // p − s
    };
    let value = distance.sum_dim(1) / (alpha * (1.0 - alpha)); //                 [groups, 1]
    with_derivative(value, log_q, beyond_q / -alpha)
}

/// The Jensen–Shannon divergence ½ KL(q ‖ m) + ½ KL(p ‖ m), m = (p + q) / 2, of each group.
pub(super) fn jensen_shannon(log_q: Tensor<2>, log_p: Tensor<2>) -> Tensor<2> {
    let constant = log_q.clone().detach();
    let (q, p) = (constant.clone().exp(), log_p.clone().exp());
    // log m − log q and log m − log p: of a sum in log space, relative to its larger part.
    let u = log_p.clone() - constant.clone();
    let larger = u.clone().clamp_min(0.0) + constant; //              max(log p, log q)
    let log_m = larger + (-u.abs()).exp().log1p() - std::f64::consts::LN_2;
    let from_q = log_q.clone().detach() - log_m.clone(); //           log q − log m
    let from_p = log_p - log_m; //                                    log p − log m
    let value = (q.clone() * from_q.clone() + p * from_p).sum_dim(1) * 0.5;
    with_derivative(value, log_q, q * from_q * 0.5)
}

/// A value, `[groups, 1]`, whose derivative by log q is `derivative`, `[groups, K]`, both constant.
fn with_derivative(value: Tensor<2>, log_q: Tensor<2>, derivative: Tensor<2>) -> Tensor<2> {
    let none = log_q.clone() - log_q.detach(); // 0, [groups, K]
    value + (derivative * none).sum_dim(1)
}

//! Parts of a backward pass whose forward pass is computed again when the backward pass reaches them.
//!
//! Such a part hands a leaf to what comes after it: the values it has computed, without their history. Once
//! the gradient of the leaf is known, the part is computed again, this time with its history, and its own
//! backward pass goes on from there. So the memory is that of one part.

use std::fmt::{Debug, Formatter};
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Gradients, Tensor};

/// Takes the gradients of a part that has gone its way back.
pub type Emit<'a> = dyn FnMut(Gradients) + 'a;

/// The parts of one backward pass that are still to come.
#[derive(Clone, Default)]
pub struct Deferred(Arc<Mutex<Vec<Part>>>);

/// Goes on from the gradients of what came after it.
type Part = Box<dyn FnOnce(&Gradients, &mut Emit<'_>) + Send>;

impl Debug for Deferred {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deferred")
    }
}

impl Deferred {
    /// `value` as a leaf. `resume` is called with its gradient, and emits the gradients of all that `value` was
    /// computed from.
    pub fn leaf<const D: usize>(
        &self,
        value: Tensor<D>,
        resume: impl FnOnce(Tensor<D>, &mut Emit<'_>) + Send + 'static,
    ) -> Tensor<D> {
        let leaf = value.detach().require_grad();
        let own = leaf.clone();
        self.parts().push(Box::new(move |gradients, emit| {
            if let Some(gradient) = own.grad(gradients) {
                drop(own);
                resume(Tensor::from_inner(gradient), emit);
            }
        }));
        leaf
    }

    /// Goes on with all parts after a backward pass that has come to their leaves, the last one first.
    pub fn resume(&self, gradients: &Gradients, emit: &mut Emit<'_>) {
        let parts = std::mem::take(&mut *self.parts());
        parts.into_iter().rev().for_each(|part| part(gradients, emit));
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Vec<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The backward pass of `output` from its own gradient.
pub fn backward_from<const D: usize>(output: Tensor<D>, gradient: Tensor<D>) -> Gradients {
    (output * gradient).sum().backward()
}

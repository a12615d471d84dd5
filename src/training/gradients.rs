//! Gradients of whole modules: sums, the global norm, clipping.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::kernels::cast::to_f32;
use crate::kernels::update::{SquareSums, scaled, sum};

/// √Σ‖g‖² over all parameters of `module`.
pub fn global_norm<M: Module>(module: &M, gradients: &GradientsParams) -> f64 {
    let mut visitor = Squares { gradients, sums: SquareSums::default() };
    module.visit(&mut visitor);
    visitor.sums.total().sqrt()
}

/// Multiplies every gradient by `factor`.
pub fn scale<M: Module>(module: &M, gradients: GradientsParams, factor: f64) -> GradientsParams {
    let mut visitor = Scale { from: gradients, factor, to: GradientsParams::new() };
    module.visit(&mut visitor);
    visitor.to
}

/// The sums of two modules' gradients, parameter by parameter.
pub fn add<M: Module>(module: &M, a: GradientsParams, b: GradientsParams) -> GradientsParams {
    let mut visitor = Add { a, b, sums: GradientsParams::new() };
    module.visit(&mut visitor);
    visitor.sums
}

/// The gradients of `module` in f32.
pub fn widened<M: Module>(module: &M, gradients: GradientsParams) -> GradientsParams {
    let mut visitor = Widen { from: gradients, to: GradientsParams::new() };
    module.visit(&mut visitor);
    visitor.to
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sums: SquareSums,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sums.add(gradient);
        }
    }
}

struct Scale {
    from: GradientsParams,
    factor: f64,
    to: GradientsParams,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, scaled(gradient, self.factor));
        }
    }
}

struct Widen {
    from: GradientsParams,
    to: GradientsParams,
}

impl ModuleVisitor for Widen {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, to_f32(gradient));
        }
    }
}

struct Add {
    a: GradientsParams,
    b: GradientsParams,
    sums: GradientsParams,
}

impl ModuleVisitor for Add {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let sum = match (self.a.remove::<D>(param.id), self.b.remove::<D>(param.id)) {
            (Some(a), Some(b)) => sum(a, b),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => return,
        };
        self.sums.register(param.id, sum);
    }
}

//! A template as a tree.

use std::sync::OnceLock;

/// A template: its statements, and apart from them what values refer to while it runs.
#[derive(Debug, Default)]
pub struct Template {
    pub body: Block,
    pub macros: Vec<Macro>,
    pub loops: Vec<For>,
}

/// Statements with a scope of their own.
#[derive(Debug, Default)]
pub struct Block {
    pub statements: Vec<Statement>,
    /// Names that the block sets before it reads them. They stand for nothing from its beginning,
    /// whatever the context calls by them.
    pub hidden: OnceLock<Vec<Box<str>>>,
}

#[derive(Debug)]
pub enum Statement {
    Data(Box<str>),
    Print(Expr),
    /// Tests with what they guard; what is left when none holds.
    If(Vec<(Expr, Vec<Statement>)>, Vec<Statement>),
    /// The index of a loop.
    For(usize),
    /// The index of a macro.
    Macro(usize),
    Set(Target, Expr),
    /// The text of the block, through filters.
    SetBlock(Target, Option<Expr>, Block),
    With(Vec<(Target, Expr)>, Block),
    /// Filters of the block's text.
    Filter(Expr, Block),
    /// A call, and the macro it gets as `caller`.
    Call(Expr, usize),
    /// The marks around the assistant's turns: the block, called as a macro is.
    Generation(usize),
    /// A block that no other template replaces.
    Named(Block),
    Break,
    Continue,
    /// What needs other templates, and there are none.
    Foreign(&'static str),
}

#[derive(Debug)]
pub struct For {
    pub target: Target,
    pub items: Expr,
    pub test: Option<Expr>,
    pub recursive: bool,
    pub body: Block,
    pub otherwise: Option<Block>,
}

#[derive(Debug)]
pub struct Macro {
    /// None of the body of a call.
    pub name: Option<Box<str>>,
    pub parameters: Vec<(Box<str>, Option<Expr>)>,
    pub body: Block,
    /// Whether the body reads `caller`, `kwargs`, `varargs` without naming them as parameters.
    pub reads: OnceLock<[bool; 3]>,
}

#[derive(Debug)]
pub enum Target {
    Name(Box<str>),
    /// An attribute of a namespace.
    Attribute(Box<str>, Box<str>),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub enum Literal {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Box<str>),
}

#[derive(Debug)]
pub enum Expr {
    Literal(Literal),
    Name(Box<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// What comes first, and operators with their right sides, from left to right.
    Chain(Box<Expr>, Vec<(Operator, Expr)>),
    Concat(Vec<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    /// Test, value, other value.
    Condition(Box<(Expr, Expr, Option<Expr>)>),
    Attribute(Box<Expr>, Box<str>),
    Item(Box<(Expr, Expr)>),
    /// An object, and where its part starts, stops and by what it steps.
    Slice(Box<(Expr, [Option<Expr>; 3])>),
    Call(Box<Expr>, Arguments),
    /// Without an input, that of the block it filters.
    Filter(Option<Box<Expr>>, Box<str>, Arguments),
    Test(Box<Expr>, Box<str>, Arguments),
}

#[derive(Debug, Default)]
pub struct Arguments {
    pub positional: Vec<Expr>,
    pub keywords: Vec<(Box<str>, Expr)>,
    pub rest: Option<Box<Expr>>,
    pub keyword_rest: Option<Box<Expr>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

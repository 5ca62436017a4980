//! What is compared with a column in one expression of a tree, bound to the column's vault.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::catalog::{self, Catalog};
use crate::pg::comparands::{Make, OURS, Stage};
use crate::pg::nodes::list;
use crate::pg::{constants, operand};

/// What a tree is walked with.
pub struct Binder<'a> {
    /// Our objects.
    pub catalog: &'a Catalog,
    /// How values are made.
    pub make: &'a Make,
    /// How far the statement is.
    pub stage: Stage,
}

impl Binder<'_> {
    /// Binds what is compared with a column; true if a text among the operands is now a card number.
    ///
    /// # Safety
    /// `args` is the list of operands of the operator, which may be changed.
    pub unsafe fn bind_operands(&self, operator: pg_sys::Oid, args: *mut pg_sys::List) -> bool {
        if !self.catalog.is_pan_operator(operator) {
            return false;
        }
        // SAFETY: by contract.
        unsafe {
            let mut operands = list(args);
            let (Some(left), Some(right)) = (operands.next(), operands.next()) else { return false };
            let (vault, at) = match (operand::bound_vault(left), operand::bound_vault(right)) {
                (Some(vault), None) => (vault, 1),
                (None, Some(vault)) => (vault, 0),
                // No column says a vault, or both do: only texts of a finished plan are left to do.
                (None, None) => {
                    (self.make.default, usize::from(catalog::contains_pan(pg_sys::exprType(left))))
                }
                (Some(_), Some(_)) => return false,
            };
            let place = &raw mut (*(*args).elements.add(at)).ptr_value;
            let node = (*place).cast::<pg_sys::Node>();
            let type_oid = pg_sys::exprType(node);
            let is_text = type_oid == pg_sys::TEXTOID || type_oid == pg_sys::TEXTARRAYOID;
            let bound = match self.stage {
                Stage::Parsed if is_text || vault == self.make.default => None,
                Stage::Parsed => self.literal(node, vault),
                // A text is hashed once a scan so, and not once a comparison.
                Stage::Planning if vault == self.make.default && !is_text => None,
                Stage::PlanningTexts if vault == self.make.default || !is_text => None,
                Stage::Planning | Stage::PlanningTexts => {
                    self.literal(node, vault).or_else(|| self.wrapped(node, vault))
                }
                Stage::Planned => self.folded(node, vault),
            };
            let Some(bound) = bound else { return false };
            *place = bound.cast();
            is_text
        }
    }

    /// The same for each pair of columns of two rows.
    ///
    /// # Safety
    /// `expr` is valid and may be changed.
    pub unsafe fn bind_row(&self, expr: *mut pg_sys::RowCompareExpr) {
        // SAFETY: by contract; the lists are of one length.
        unsafe {
            let (operators, left, right) = ((*expr).opnos, (*expr).largs, (*expr).rargs);
            for i in 0..list(left).count() {
                let (operator, left, right) =
                    ((*operators).elements.add(i), (*left).elements.add(i), (*right).elements.add(i));
                let pair = pg_sys::lappend(std::ptr::null_mut(), (*left).ptr_value);
                let pair = pg_sys::lappend(pair, (*right).ptr_value);
                let is_text = self.bind_operands((*operator).oid_value, pair);
                (*left).ptr_value = (*(*pair).elements).ptr_value;
                (*right).ptr_value = (*(*pair).elements.add(1)).ptr_value;
                if is_text && let Some(of_pans) = self.catalog.operator_of_pans((*operator).oid_value) {
                    (*operator).oid_value = of_pans;
                }
            }
        }
    }

    /// A literal, or an array that has some among its elements, bound to the vault.
    ///
    /// # Safety
    /// `node` is an operand, which may be changed.
    unsafe fn literal(&self, node: *mut pg_sys::Node, vault: i32) -> Option<*mut pg_sys::Node> {
        // SAFETY: by contract; the tag says what the node is.
        unsafe {
            match (*node).type_ {
                NodeTag::T_Const => self.constant(node.cast(), vault),
                NodeTag::T_ArrayExpr => {
                    let elements = (*node.cast::<pg_sys::ArrayExpr>()).elements;
                    for i in 0..list(elements).count() {
                        let place = &raw mut (*(*elements).elements.add(i)).ptr_value;
                        let element = (*place).cast::<pg_sys::Node>();
                        if (*element).type_ == NodeTag::T_Const
                            && (*element.cast::<pg_sys::Const>()).consttype == self.catalog.pan
                            && let Some(bound) = self.constant(element.cast(), vault)
                        {
                            *place = bound.cast();
                        }
                    }
                    None
                }
                _ => None,
            }
        }
    }

    /// # Safety
    /// `constant` is valid.
    unsafe fn constant(&self, constant: *mut pg_sys::Const, vault: i32) -> Option<*mut pg_sys::Node> {
        // SAFETY: by contract; the type says what the value is.
        unsafe {
            let (pan, value) = (self.catalog.pan, (*constant).constvalue);
            let of_pan = match self.stage {
                Stage::Parsed => self.make.of_literal,
                Stage::Planning | Stage::PlanningTexts => self.make.of_kept,
                Stage::Planned => self.make.of_pan,
            };
            let (text, card) =
                (|bytes: &[u8]| (self.make.of_text)(bytes, vault), |bytes: &[u8]| of_pan(bytes, vault));
            let pans = || pg_sys::get_array_type(pan);
            match (*constant).consttype {
                _ if (*constant).constisnull => None,
                pg_sys::TEXTOID => Some(constants::constant(pan, constants::made(value, &text)?)),
                pg_sys::TEXTARRAYOID => {
                    let array = constants::made_array(value, pg_sys::TEXTOID, pan, false, &text)?;
                    Some(constants::constant(pans(), array))
                }
                oid if oid == pan => Some(constants::constant(pan, constants::made(value, &card)?)),
                oid if oid == pans() => {
                    Some(constants::constant(oid, constants::made_array(value, pan, pan, true, &card)?))
                }
                _ => None,
            }
        }
    }

    /// The operand within the function that binds it when the statement is run.
    ///
    /// # Safety
    /// `node` is an operand.
    unsafe fn wrapped(&self, node: *mut pg_sys::Node, vault: i32) -> Option<*mut pg_sys::Node> {
        // SAFETY: by contract; the tag says what the node is.
        unsafe {
            let (mut node, pan) = (node, self.catalog.pan);
            // A text cast to a card number: the comparand is made of the text.
            if (*node).type_ == NodeTag::T_FuncExpr {
                let call = node.cast::<pg_sys::FuncExpr>();
                let is_cast = (*call).funcid == self.catalog.functions().from_text;
                if is_cast && self.catalog.functions().bound_to(call).is_none() {
                    node = list((*call).args).next()?;
                }
            }
            let [text, card, texts, cards] = self.catalog.functions().comparands;
            let pans = pg_sys::get_array_type(pan);
            let (function, result) = match pg_sys::exprType(node) {
                pg_sys::TEXTOID => (text, pan),
                pg_sys::TEXTARRAYOID => (texts, pans),
                oid if oid == pan && operand::is_of_no_vault(node) => (card, pan),
                oid if oid == pans
                    && (operand::is_of_no_vault(node) || (*node).type_ == NodeTag::T_ArrayExpr) =>
                {
                    (cards, pans)
                }
                _ => return None,
            };
            // A literal is bound by now, or never.
            if function == pg_sys::InvalidOid
                || ((*node).type_ == NodeTag::T_Const && [card, cards].contains(&function))
            {
                return None;
            }
            let args = pg_sys::lappend(std::ptr::null_mut(), node.cast());
            let args = pg_sys::lappend(args, constants::number(vault).cast());
            let form = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
            let none = pg_sys::InvalidOid;
            Some(pg_sys::makeFuncExpr(function, result, args, OURS, none, form).cast())
        }
    }

    /// In a finished plan: a text, or what was wrapped and is a constant by now.
    ///
    /// # Safety
    /// `node` is an operand.
    unsafe fn folded(&self, node: *mut pg_sys::Node, vault: i32) -> Option<*mut pg_sys::Node> {
        // SAFETY: by contract; the tag says what the node is.
        unsafe {
            match (*node).type_ {
                NodeTag::T_Const => match (*node.cast::<pg_sys::Const>()).consttype {
                    pg_sys::TEXTOID | pg_sys::TEXTARRAYOID => {
                        self.constant(node.cast(), vault).or_else(|| {
                            if vault == self.make.default { None } else { self.wrapped(node, vault) }
                        })
                    }
                    _ => None,
                },
                NodeTag::T_FuncExpr => {
                    let call = node.cast::<pg_sys::FuncExpr>();
                    let is_ours = self.catalog.functions().comparands.contains(&(*call).funcid);
                    let argument = list((*call).args).next()?;
                    match is_ours && (*call).funccollid == OURS && (*argument).type_ == NodeTag::T_Const {
                        // A card number of a vault stays what it is.
                        true => self.constant(argument.cast(), vault).or_else(|| {
                            let is_card = (*argument.cast::<pg_sys::Const>()).consttype == self.catalog.pan;
                            is_card.then_some(argument)
                        }),
                        false if is_ours || vault == self.make.default => None,
                        false => self.leftover(node, vault),
                    }
                }
                _ if vault == self.make.default => None,
                _ => self.leftover(node, vault),
            }
        }
    }

    /// A text that came to light when a function was inlined.
    ///
    /// # Safety
    /// `node` is an operand.
    unsafe fn leftover(&self, node: *mut pg_sys::Node, vault: i32) -> Option<*mut pg_sys::Node> {
        // SAFETY: by contract.
        unsafe {
            // Of a card number the function may not be called in a parallel worker.
            match pg_sys::exprType(node) {
                pg_sys::TEXTOID | pg_sys::TEXTARRAYOID => self.wrapped(node, vault),
                _ => None,
            }
        }
    }

    /// Moves a literal to the vault that it is cast to. The cast stays: it says where the value belongs.
    ///
    /// # Safety
    /// `call` is valid and may be changed.
    pub unsafe fn move_literal(&self, call: *mut pg_sys::FuncExpr) {
        // SAFETY: by contract; the tag says what the node is.
        unsafe {
            let functions = self.catalog.functions();
            if (*call).funcid != functions.to_vault {
                return;
            }
            let (Some(vault), Some(argument)) = (functions.bound_to(call), list((*call).args).next()) else {
                return;
            };
            if (*argument).type_ != NodeTag::T_Const {
                return;
            }
            let constant = argument.cast::<pg_sys::Const>();
            if (*constant).constisnull || (*constant).consttype != self.catalog.pan {
                return;
            }
            if let Some(value) =
                constants::made((*constant).constvalue, &|bytes| (self.make.moved)(bytes, vault))
            {
                (*constant).constvalue = value;
            }
        }
    }
}

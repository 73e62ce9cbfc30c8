"""Shape and dtype rules: each checks an op's inputs and lays out its kernel calls (a `Plan`), or says what came and how to mend it."""
from __future__ import annotations

from minigrad.ops.op import Rule as Rule
from minigrad.ops.rules.objectives import class_loss as class_loss
from minigrad.ops.rules.objectives import class_loss_grad as class_loss_grad
from minigrad.ops.rules.objectives import loss as loss
from minigrad.ops.rules.objectives import loss_grad as loss_grad
from minigrad.ops.rules.plans import FLOAT64 as FLOAT64
from minigrad.ops.rules.plans import INT64 as INT64
from minigrad.ops.rules.plans import axes_of as axes_of
from minigrad.ops.rules.plans import layout as layout
from minigrad.ops.rules.plans import listed as listed
from minigrad.ops.rules.plans import matrix as matrix
from minigrad.ops.rules.plans import same_dtype as same_dtype
from minigrad.ops.rules.plans import same_float as same_float
from minigrad.ops.rules.plans import same_shape as same_shape
from minigrad.ops.rules.plans import scalar as scalar
from minigrad.ops.rules.plans import step as step
from minigrad.ops.rules.pointwise import cast as cast
from minigrad.ops.rules.pointwise import elementwise as elementwise
from minigrad.ops.rules.pointwise import inplace as inplace
from minigrad.ops.rules.pointwise import same as same
from minigrad.ops.rules.products import gemm_flops as gemm_flops
from minigrad.ops.rules.products import gemm_tn_flops as gemm_tn_flops
from minigrad.ops.rules.products import linear as linear
from minigrad.ops.rules.products import product as product
from minigrad.ops.rules.reductions import reduction as reduction
from minigrad.ops.rules.reductions import rowwise as rowwise
from minigrad.ops.rules.shapes import expand as expand
from minigrad.ops.rules.shapes import expansion as expansion
from minigrad.ops.rules.shapes import reshape as reshape
from minigrad.ops.rules.shapes import runs as runs
from minigrad.ops.rules.shapes import transpose as transpose

"""Operators that a weight file may use: those of image networks, without control flow, randomness, texts and training.

Loop, Scan, If and SequenceMap hold graphs of their own and may run without end. Operators of other domains come from
libraries that fastscnn does not load.
"""

from __future__ import annotations

_ELEMENTWISE = """
Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip
Cos Cosh CumSum Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Hardmax IsInf IsNaN LeakyRelu
Less LessOrEqual Log LogSoftmax Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign
Sin Sinh Softmax Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor
"""
_LAYERS = """
Attention AveragePool BatchNormalization Conv ConvInteger ConvTranspose DeformConv Det Dropout Einsum Gemm GlobalAveragePool
GlobalLpPool GlobalMaxPool GroupNormalization InstanceNormalization LRN LayerNormalization LpNormalization LpPool MatMul
MatMulInteger MaxPool MaxRoiPool MaxUnpool MeanVarianceNormalization NonMaxSuppression RMSNormalization RoiAlign
RotaryEmbedding
"""
_SHAPES = """
AffineGrid ArgMax ArgMin CenterCropPad Compress Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace Expand EyeLike
Flatten Gather GatherElements GatherND GridSample Identity NonZero OneHot Pad Range ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Reshape Resize ReverseSequence Scatter
ScatterElements ScatterND SequenceAt SequenceConstruct SequenceLength Shape Size Slice SpaceToDepth Split SplitToSequence
Squeeze TensorScatter Tile TopK Transpose Trilu Unique Unsqueeze Upsample
"""
_QUANTISED = "DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul QuantizeLinear"
_OF_ONNX_RUNTIME = """
DequantizeLinear DynamicQuantizeMatMul MatMulIntegerToFloat QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv
QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere
QuantizeLinear
"""

# (domain, operator)
ALLOWED = frozenset(
    (domain, operator.encode())
    for domains, names in (
        ((b"", b"ai.onnx"), _ELEMENTWISE + _LAYERS + _SHAPES + _QUANTISED),
        ((b"com.microsoft",), _OF_ONNX_RUNTIME),
    )
    for domain in domains
    for operator in names.split()
)

"""Makes transformers' mllama treat text rows that see no picture as Meta's code does: nothing comes out of their cross-attention.

transformers (5.23) lets such rows attend to everything; the demo model is trained and served with zero.
"""

from transformers.models.mllama import modeling_mllama


def patch() -> None:
    layer = modeling_mllama.MllamaCrossAttentionDecoderLayer
    if getattr(layer, "unseen_rows_zero", False):
        return
    original = layer.forward

    def forward(
        self,
        hidden_states,
        cross_attention_states,
        cross_attention_mask,
        attention_mask,
        full_text_row_masked_out_mask,
        **kwargs
    ):
        gate = self.cross_attn

        def attention(*arguments, **named):
            out, weights = type(gate).forward(gate, *arguments, **named)
            if full_text_row_masked_out_mask is not None:
                out = full_text_row_masked_out_mask[:, 0] * out
            return out, weights

        gate.forward = attention
        try:
            return original(
                self,
                hidden_states,
                cross_attention_states,
                cross_attention_mask,
                attention_mask,
                full_text_row_masked_out_mask,
                **kwargs
            )
        finally:
            del gate.forward

    layer.forward = forward
    layer.unseen_rows_zero = True

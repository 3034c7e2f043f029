"""What engines measure: their own metrics, read into the same few numbers."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lmforge_operator.serving.engines import ENGINES
from lmforge_operator.serving.load import EngineLoad

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="chat"} 3.0
vllm:num_requests_running{engine="1",model_name="chat"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="chat"} 5.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 5.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="chat"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="chat"} 0.1
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{engine="0",model_name="chat"} 700.0
vllm:generation_tokens_created{engine="0",model_name="chat"} 1.7e+09
# TYPE vllm:request_success counter
vllm:request_success_total{engine="0",finished_reason="stop"} 4.0
vllm:request_success_total{engine="0",finished_reason="length"} 2.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1"} 4.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 6.0
vllm:time_to_first_token_seconds_count{engine="0"} 6.0
vllm:time_to_first_token_seconds_sum{engine="0"} 1.5
"""
ONNXRUNTIME = """\
lmforge_engine_requests_waiting 5.0
lmforge_engine_requests_running 4.0
lmforge_engine_kv_cache_use_ratio 0.25
lmforge_engine_generated_tokens_total 700.0
lmforge_engine_generated_tokens_created 1.7e+09
lmforge_engine_requests_finished_total{reason="stop"} 4.0
lmforge_engine_requests_finished_total{reason="cancelled"} 2.0
lmforge_engine_time_to_first_token_seconds_bucket{le="+Inf"} 6.0
lmforge_engine_time_to_first_token_seconds_count 6.0
lmforge_engine_time_to_first_token_seconds_sum 1.5
"""
TENSORRT = """\
# TYPE trtllm_num_requests_running gauge
trtllm_num_requests_running{model_name="chat"} 3.0
# TYPE trtllm_num_requests_waiting gauge
trtllm_num_requests_waiting{model_name="chat"} 2.0
# TYPE trtllm_kv_cache_utilization gauge
trtllm_kv_cache_utilization{model_name="chat"} 0.25
# TYPE trtllm_generation_tokens counter
trtllm_generation_tokens_total{model_name="chat"} 90.0
# TYPE trtllm_request_success counter
trtllm_request_success_total{model_name="chat",finished_reason="stop"} 4.0
trtllm_request_success_total{model_name="chat",finished_reason="length"} 1.0
# TYPE trtllm_time_to_first_token_seconds histogram
trtllm_time_to_first_token_seconds_bucket{model_name="chat",le="+Inf"} 5.0
trtllm_time_to_first_token_seconds_count{model_name="chat"} 5.0
trtllm_time_to_first_token_seconds_sum{model_name="chat"} 0.5
"""
MEASURED = {
    "vllm": (
        VLLM,
        EngineLoad(
            waiting=5, running=4, kv_cache_use=0.3, tokens=700, answered=6, first_token_seconds=1.5, first_tokens=6
        ),
    ),
    "onnxruntime": (
        ONNXRUNTIME,
        EngineLoad(
            waiting=5, running=4, kv_cache_use=0.25, tokens=700, answered=6, first_token_seconds=1.5, first_tokens=6
        ),
    ),
    "tensorrt": (
        TENSORRT,
        EngineLoad(
            waiting=2, running=3, kv_cache_use=0.25, tokens=90, answered=5, first_token_seconds=0.5, first_tokens=5
        ),
    ),
}


@pytest.mark.parametrize(("name", "exposition", "load"), [(name, *row) for name, row in MEASURED.items()], ids=MEASURED)
def test_an_engines_metrics_are_read_with_all_parts_of_a_replica_together(
    name: str, exposition: str, load: EngineLoad
) -> None:
    assert ENGINES[name].measure(list(text_string_to_metric_families(exposition))) == load


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_without_metrics_has_no_load(name: str) -> None:
    assert ENGINES[name].measure([]) == EngineLoad()

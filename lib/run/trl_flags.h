// trl_flags.h: what becomes here of the flags of TRL and transformers, so that their command lines and
// configuration files work as they are, with local paths. A flag that a program has itself, under the
// same name, is not listed; every other one is here, once:
//
//     FLAG_ALIAS   it has another name here
//     FLAG_IDLE    whatever its value, it changes nothing in what is learnt or written
//     FLAG_ONLY    that holds for these values; others are refused, and the text says why
//     FLAG_NOTE    others are accepted, and the text says what comes of them
//     FLAG_NULL    what null in a file means
//
// Names: all of TRL 1.16 (ScriptArguments, ModelConfig and the configs of SFT, DPO, KTO, ORPO, reward
// models), of the PPOConfig of TRL 1.12, and those of TRL 0.12 to 0.24 and transformers 4.57 that are gone
// by now, but not from people's scripts. test/test_trl_flags.sh goes through all of them, with
// test/golden/trl_flags.txt; docs/flags.md is this table for users.
#ifndef TRL_FLAGS_H
#define TRL_FLAGS_H

#include "../base/flags.h" // defines: FLAG_ALIAS, FLAG_IDLE, FLAG_ONLY, FLAG_NOTE, FLAG_NULL

// clang-format off

// ScriptArguments and ModelConfig: the data and the model.
#define TRL_FLAGS_SCRIPT                                                                           \
    FLAG_ALIAS("model_name_or_path", "model", NULL),                                               \
    FLAG_ALIAS("dataset_name", "dataset", NULL),                                                   \
    FLAG_ONLY("dataset_config", "default", "a local file or folder has no configurations"),        \
    FLAG_ONLY("dataset_streaming", "false",                                                        \
              "data is read into memory, so that it can be shuffled"),                             \
    FLAG_ONLY("datasets", "",                                                                      \
              "a mixture of data sets: give --dataset the files with commas, by weight as "        \
              "a.jsonl:0.7,b.jsonl:0.3"),                                                          \
    FLAG_ONLY("env", "",                                                                           \
              "variables of the environment are set before the program: NAME=value ./train_..."),  \
    FLAG_IDLE("ignore_bias_buffers", "for several processes"),                                     \
    FLAG_ONLY("model_revision", "main", "a local directory has no revisions"),                     \
    FLAG_NOTE("dtype", "auto|float32", "weights are float32 here; --bf16 multiplies in bfloat16"), \
    FLAG_NOTE("torch_dtype", "auto|float32",                                                       \
              "weights are float32 here; --bf16 multiplies in bfloat16"),                          \
    FLAG_IDLE("attn_implementation", "attention is exact, however it is computed"),                \
    FLAG_IDLE("trust_remote_code", "no code of a model's directory is ever run"),                  \
    FLAG_ONLY("use_peft", "false", TRL_NO_ADAPTERS),                                               \
    FLAG_ONLY("lora_r", "16", TRL_NO_ADAPTERS),                                                    \
    FLAG_ONLY("lora_alpha", "32", TRL_NO_ADAPTERS),                                                \
    FLAG_ONLY("lora_dropout", "0.05", TRL_NO_ADAPTERS),                                            \
    FLAG_ONLY("lora_target_modules", "", TRL_NO_ADAPTERS),                                         \
    FLAG_ONLY("lora_target_parameters", "", TRL_NO_ADAPTERS),                                      \
    FLAG_ONLY("lora_modules_to_save", "", TRL_NO_ADAPTERS),                                        \
    FLAG_ONLY("lora_task_type", "CAUSAL_LM", TRL_NO_ADAPTERS),                                     \
    FLAG_ONLY("use_rslora", "false", TRL_NO_ADAPTERS),                                             \
    FLAG_ONLY("use_dora", "false", TRL_NO_ADAPTERS),                                               \
    FLAG_ONLY("load_in_8bit", "false", TRL_NO_QUANTS),                                             \
    FLAG_ONLY("load_in_4bit", "false", TRL_NO_QUANTS),                                             \
    FLAG_ONLY("bnb_4bit_quant_type", "nf4", TRL_NO_QUANTS),                                        \
    FLAG_ONLY("bnb_4bit_quant_storage", "", TRL_NO_QUANTS),                                        \
    FLAG_ONLY("use_bnb_nested_quant", "false", TRL_NO_QUANTS)

#define TRL_NO_ADAPTERS "there are no adapters (LoRA) here: all weights are trained"
#define TRL_NO_QUANTS "weights are float32 here, never quantised"

// TrainingArguments: how a run is made, where it makes no difference to what is learnt.
#define TRL_FLAGS_MACHINE                                                                          \
    FLAG_IDLE("use_cpu", "there is nothing else"),                                                 \
    FLAG_IDLE("no_cuda", "there is nothing but the CPU"),                                          \
    FLAG_IDLE("use_mps_device", "there is nothing but the CPU"),                                   \
    FLAG_ONLY("fp16", "false", "float16 would need scaled losses; --bf16 multiplies in bfloat16"), \
    FLAG_ONLY("fp16_full_eval", "false", "an evaluation multiplies as training does: --bf16"),     \
    FLAG_ONLY("bf16_full_eval", "false", "an evaluation multiplies as training does: --bf16"),     \
    FLAG_IDLE("fp16_opt_level", "for fp16"),                                                       \
    FLAG_IDLE("fp16_backend", "for fp16"),                                                         \
    FLAG_IDLE("half_precision_backend", "there is one"),                                           \
    FLAG_IDLE("tf32", "for GPUs"),                                                                 \
    FLAG_IDLE("jit_mode_eval", "speed alone"),                                                     \
    FLAG_IDLE("torch_compile", "speed alone"),                                                     \
    FLAG_IDLE("torch_compile_backend", "speed alone"),                                             \
    FLAG_IDLE("torch_compile_mode", "speed alone"),                                                \
    FLAG_IDLE("torchdynamo", "speed alone"),                                                       \
    FLAG_IDLE("use_liger_kernel", "speed alone"),                                                  \
    FLAG_IDLE("liger_kernel_config", "speed alone"),                                               \
    FLAG_IDLE("use_cache", "training has no use for keys and values of a row before"),             \
    FLAG_ALIAS("activation_checkpointing", "gradient_checkpointing", NULL),                        \
    FLAG_IDLE("activation_checkpointing_kwargs", "there is one way"),                              \
    FLAG_IDLE("gradient_checkpointing_kwargs", "there is one way"),                                \
    FLAG_IDLE("gradient_checkpointing_use_reentrant", "there is one way"),                         \
    FLAG_IDLE("torch_empty_cache_steps", "for GPUs"),                                              \
    FLAG_NOTE("auto_find_batch_size", "false", "the batch size is what the flags say"),            \
    FLAG_IDLE("dataloader_num_workers", "data is in memory"),                                      \
    FLAG_IDLE("dataloader_pin_memory", "data is in memory"),                                       \
    FLAG_IDLE("dataloader_persistent_workers", "data is in memory"),                               \
    FLAG_IDLE("dataloader_prefetch_factor", "data is in memory"),                                  \
    FLAG_IDLE("dataloader_multiprocessing_context", "data is in memory"),                          \
    FLAG_IDLE("dataloader_in_order", "data is in memory"),                                         \
    FLAG_ONLY("dataloader_drop_last", "false", "an epoch's last rows are learnt, too"),            \
    FLAG_IDLE("dataset_num_proc", "data is read by one process"),                                  \
    FLAG_IDLE("remove_unused_columns", "columns that are not needed are left alone"),              \
    FLAG_IDLE("label_names", "metrics are those of the program"),                                  \
    FLAG_IDLE("pad_to_multiple_of", "batches have no padding"),                                    \
    FLAG_IDLE("full_determinism", "a run's bits are those of its seed and number of threads"),     \
    FLAG_ONLY("data_seed", "", "the order of the data is drawn from --seed"),                      \
    FLAG_ONLY("local_rank", "-1|0", TRL_ONE_PROCESS),                                              \
    FLAG_ONLY("accelerator_config", "{}", TRL_ONE_PROCESS),                                        \
    FLAG_ONLY("parallelism_config", "{}", TRL_ONE_PROCESS),                                        \
    FLAG_ONLY("fsdp", "false", TRL_ONE_PROCESS),                                                   \
    FLAG_ONLY("fsdp_config", "{}", TRL_ONE_PROCESS),                                               \
    FLAG_ONLY("fsdp_min_num_params", "0", TRL_ONE_PROCESS),                                        \
    FLAG_ONLY("fsdp_transformer_layer_cls_to_wrap", "", TRL_ONE_PROCESS),                          \
    FLAG_ONLY("deepspeed", "", TRL_ONE_PROCESS),                                                   \
    FLAG_ONLY("mp_parameters", "", TRL_ONE_PROCESS),                                               \
    FLAG_ONLY("tpu_num_cores", "", TRL_ONE_PROCESS),                                               \
    FLAG_IDLE("tpu_metrics_debug", "for TPUs"),                                                    \
    FLAG_IDLE("average_tokens_across_devices", "there is one process"),                            \
    FLAG_IDLE("ddp_find_unused_parameters", "there is one process"),                               \
    FLAG_IDLE("ddp_bucket_cap_mb", "there is one process"),                                        \
    FLAG_IDLE("ddp_broadcast_buffers", "there is one process"),                                    \
    FLAG_IDLE("ddp_static_graph", "there is one process"),                                         \
    FLAG_IDLE("ddp_backend", "there is one process"),                                              \
    FLAG_IDLE("ddp_timeout", "there is one process"),                                              \
    FLAG_IDLE("ray_scope", "there is no search for hyperparameters"),                              \
    FLAG_ONLY("debug", "", "there are no such tools; a loss that is not finite ends the run")

#define TRL_ONE_PROCESS "a run is one process on one machine"

// TrainingArguments: what is learnt.
#define TRL_FLAGS_LEARNT                                                                           \
    FLAG_SHARE("warmup_ratio", "warmup_steps"),                                                    \
    FLAG_ONLY("lr_scheduler_kwargs", "{}", "the schedules have no settings but --warmup_steps"),   \
    FLAG_ONLY("optim", TRL_ADAMW, "the optimizer is AdamW, in float32"),                           \
    FLAG_ONLY("optim_args", "",                                                                    \
              "AdamW's are --adam_beta1, --adam_beta2, --adam_epsilon, --weight_decay"),           \
    FLAG_ONLY("optim_target_modules", "", "all weights are trained by AdamW"),                     \
    FLAG_ONLY("adafactor", "false", "the optimizer is AdamW, in float32"),                         \
    FLAG_ONLY("label_smoothing_factor", "0", "the targets are the data's"),                        \
    FLAG_ONLY("neftune_noise_alpha", "0", "embeddings get no noise"),                              \
    FLAG_ONLY("model_init_kwargs", "{}", "a model is what its config.json says"),                  \
    FLAG_IDLE("router_aux_loss_coef", "GPT-2 has no experts to choose among"),                     \
    FLAG_ONLY("past_index", "-1", "GPT-2 has no state from batch to batch")

#define TRL_ADAMW                                                                                  \
    "adamw_torch|adamw_torch_fused|adamw_hf|adamw_torch_xla|adamw_torch_npu_fused|"                \
    "adamw_apex_fused|paged_adamw_32bit"

// TrainingArguments: what is written, said and sent.
#define TRL_FLAGS_WRITTEN                                                                          \
    FLAG_NOTE("report_to", "none",                                                                 \
              "nothing is sent; metrics.jsonl in the output directory has TRL's names"),           \
    FLAG_IDLE("run_name", "a name for a service"),                                                 \
    FLAG_IDLE("project", "a name for a service"),                                                  \
    FLAG_IDLE("trackio_space_id", "a name for a service"),                                         \
    FLAG_IDLE("trackio_bucket_id", "a name for a service"),                                        \
    FLAG_IDLE("trackio_static_space_id", "a name for a service"),                                  \
    FLAG_IDLE("logging_dir", "the log is metrics.jsonl in the output directory"),                  \
    FLAG_IDLE("log_on_each_node", "there is one"),                                                 \
    FLAG_IDLE("logging_nan_inf_filter", "a loss that is not finite ends the run"),                 \
    FLAG_IDLE("include_num_input_tokens_seen", "num_tokens is always in the log"),                 \
    FLAG_IDLE("include_tokens_per_second", "it is always shown"),                                  \
    FLAG_IDLE("log_level", "there is one"),                                                        \
    FLAG_IDLE("log_level_replica", "there is one process"),                                        \
    FLAG_IDLE("disable_tqdm", "progress is shown on terminals alone"),                             \
    FLAG_IDLE("skip_memory_metrics", "peak memory is always told"),                                \
    FLAG_IDLE("do_train", "the program trains"),                                                   \
    FLAG_IDLE("do_eval", "see --eval_strategy; TRL's programs do not read it"),                    \
    FLAG_IDLE("do_predict", "TRL's programs do not read it"),                                      \
    FLAG_ONLY("eval_delay", "0", "evaluations begin at the start"),                                \
    FLAG_IDLE("eval_on_start", "a run with data for evaluation always begins with one"),           \
    FLAG_IDLE("prediction_loss_only", "metrics are those of the program"),                         \
    FLAG_IDLE("eval_do_concat_batches", "metrics are those of the program"),                       \
    FLAG_IDLE("eval_use_gather_object", "there is one process"),                                   \
    FLAG_IDLE("eval_accumulation_steps", "no predictions are kept"),                               \
    FLAG_IDLE("include_for_metrics", "metrics are those of the program"),                          \
    FLAG_IDLE("include_inputs_for_metrics", "metrics are those of the program"),                   \
    FLAG_IDLE("batch_eval_metrics", "metrics are those of the program"),                           \
    FLAG_IDLE("use_legacy_prediction_loop", "there is one"),                                       \
    FLAG_IDLE("save_only_model", "a checkpoint always has what it takes to go on"),                \
    FLAG_IDLE("save_on_each_node", "there is one"),                                                \
    FLAG_ONLY("save_safetensors", "true", "models are written as safetensors"),                    \
    FLAG_IDLE("enable_jit_checkpoint", "a run that is told to stop always saves"),                 \
    FLAG_ONLY("load_best_model_at_end", "false",                                                   \
              "final/ is the last model; --save_steps keeps those before"),                        \
    FLAG_IDLE("metric_for_best_model", "for load_best_model_at_end"),                              \
    FLAG_IDLE("greater_is_better", "for load_best_model_at_end"),                                  \
    FLAG_ONLY("ignore_data_skip", "false", "a run goes on where it was in its data"),              \
    FLAG_IDLE("restore_callback_states_from_checkpoint", "there are no callbacks"),                \
    FLAG_ONLY("push_to_hub", "false",                                                              \
              "nothing is sent; final/ in the output directory is ready to upload"),               \
    FLAG_IDLE("hub_model_id", "for push_to_hub"),                                                  \
    FLAG_IDLE("hub_token", "for push_to_hub"),                                                     \
    FLAG_IDLE("hub_private_repo", "for push_to_hub"),                                              \
    FLAG_IDLE("hub_strategy", "for push_to_hub"),                                                  \
    FLAG_IDLE("hub_always_push", "for push_to_hub"),                                               \
    FLAG_IDLE("hub_revision", "for push_to_hub"),                                                  \
    FLAG_IDLE("push_to_hub_model_id", "for push_to_hub"),                                          \
    FLAG_IDLE("push_to_hub_organization", "for push_to_hub"),                                      \
    FLAG_IDLE("push_to_hub_token", "for push_to_hub")

#define TRL_FLAGS_SHARED TRL_FLAGS_SCRIPT, TRL_FLAGS_MACHINE, TRL_FLAGS_LEARNT, TRL_FLAGS_WRITTEN

// For programs that go through their data in epochs (all but PPO).
#define TRL_FLAGS                                                                                  \
    TRL_FLAGS_SHARED,                                                                              \
    FLAG_ALIAS("evaluation_strategy", "eval_strategy", NULL),                                      \
    FLAG_ALIAS("per_gpu_train_batch_size", "per_device_train_batch_size", NULL),                   \
    FLAG_ALIAS("per_gpu_eval_batch_size", "per_device_eval_batch_size", NULL),                     \
    FLAG_NOTE("shuffle_dataset", "true",                                                           \
              "order is random still, as in TRL, where the flag is about "                         \
              "one more shuffle; --train_sampling_strategy sequential keeps that of the data"),    \
    FLAG_ONLY("group_by_length", "false",                                                          \
              "batches have no padding to save; order is random, or the data's"),                  \
    FLAG_IDLE("length_column_name", "for group_by_length"),                                        \
    FLAG_NULL("max_length", "1048576")

#define TRL_FLAGS_SFT                                                                              \
    TRL_FLAGS,                                                                                     \
    FLAG_ALIAS("max_seq_length", "max_length", NULL),                                              \
    FLAG_ONLY("loss_type", "nll|chunked_nll", "the loss is the mean of -log p over tokens"),       \
    FLAG_ONLY("packing", "false",                                                                  \
              "a row is one text; there is no padding that packing would save"),                   \
    FLAG_ONLY("eval_packing", "false", "a row is one text"),                                       \
    FLAG_IDLE("packing_strategy", "for packing"),                                                  \
    FLAG_IDLE("padding_free", "batches never have padding"),                                       \
    FLAG_ONLY("assistant_only_loss", "false", "of messages the last one is learnt, or with "       \
              "--completion_only_loss false all"),                                                 \
    FLAG_ONLY("dataset_kwargs", "{}", "see data/README.md for what is read"),                      \
    TRL_FLAGS_TOKENS,                                                                              \
    FLAG_IDLE("activation_offloading", "for GPUs"),                                                \
    FLAG_IDLE("use_liger", "speed alone"),                                                         \
    FLAG_IDLE("dataset_batch_size", "speed alone"),                                                \
    FLAG_IDLE("num_of_sequences", "for packing"),                                                  \
    FLAG_IDLE("chars_per_token", "for packing")

#define TRL_FLAGS_TOKENS                                                                           \
    FLAG_ONLY("chat_template_path", "", "messages become text by --chat_format"),                  \
    FLAG_ONLY("eos_token", "", "a text ends with the tokenizer's end-of-text token"),              \
    FLAG_IDLE("pad_token", "batches have no padding")

#define TRL_NO_DROPOUT FLAG_ONLY("disable_dropout", "true", "there is no dropout here")

#define TRL_FLAGS_RM                                                                               \
    TRL_FLAGS,                                                                                     \
    TRL_FLAGS_TOKENS,                                                                              \
    TRL_NO_DROPOUT,                                                                                \
    FLAG_IDLE("activation_offloading", "for GPUs")

// What learning from preferences has beside that: a reference, computed once and kept.
#define TRL_FLAGS_REFERENCE                                                                        \
    TRL_NO_DROPOUT,                                                                                \
    FLAG_IDLE("precompute_ref_log_probs", "they are always computed once and kept"),               \
    FLAG_IDLE("precompute_ref_batch_size", "speed alone"),                                         \
    FLAG_IDLE("activation_offloading", "for GPUs"),                                                \
    FLAG_ONLY("ref_model_init_kwargs", "{}", "a model is what its config.json says"),              \
    FLAG_IDLE("label_pad_token_id", "batches have no padding"),                                    \
    FLAG_IDLE("padding_value", "batches have no padding"),                                         \
    FLAG_ONLY("is_encoder_decoder", "false", "GPT-2 is a decoder"),                                \
    FLAG_NOTE("generate_during_eval", "false",                                                     \
              "texts are shown before and after training: --samples"),                             \
    FLAG_IDLE("use_liger_loss", "speed alone"),                                                    \
    FLAG_IDLE("base_model_attribute_name", "speed alone"),                                         \
    FLAG_ONLY("model_adapter_name", "", TRL_NO_ADAPTERS),                                          \
    FLAG_ONLY("ref_adapter_name", "", TRL_NO_ADAPTERS),                                            \
    FLAG_IDLE("force_use_ref_model", "there is always a reference")

#define TRL_FLAGS_DPO                                                                              \
    TRL_FLAGS,                                                                                     \
    TRL_FLAGS_REFERENCE,                                                                           \
    FLAG_ALIAS("rpo_alpha", "sft_weight", NULL),                                                   \
    FLAG_ONLY("loss_weights", "1", "there is one --loss_type, and its weight is 1; loss_type "     \
              "[sigmoid, sft] with weights 1 and W is --sft_weight W"),                            \
    FLAG_ONLY("ld_alpha", "1", "every token of a completion has the same weight"),                 \
    FLAG_ONLY("f_divergence_type", "reverse_kl", "the divergence is the reverse KL"),              \
    FLAG_IDLE("f_alpha_divergence_coef", "for another f_divergence_type"),                         \
    FLAG_ONLY("use_weighting", "false", "all pairs have the same weight"),                         \
    FLAG_IDLE("discopop_tau", "for another loss_type"),                                            \
    FLAG_ONLY("reference_free", "false", "there is always a reference"),                           \
    FLAG_IDLE("padding_free", "batches never have padding"),                                       \
    FLAG_IDLE("pad_token", "batches have no padding"),                                             \
    FLAG_IDLE("use_logits_to_keep", "speed alone"),                                                \
    FLAG_IDLE("max_target_length", "for encoders"),                                                \
    FLAG_ONLY("tools", "", "prompts name no tools")

#define TRL_FLAGS_KTO                                                                              \
    TRL_FLAGS,                                                                                     \
    TRL_FLAGS_REFERENCE,                                                                           \
    FLAG_ONLY("sync_ref_model", "false",                                                           \
              "the reference stays what it is; train_dpo has the flag"),                           \
    FLAG_IDLE("ref_model_mixup_alpha", "for sync_ref_model"),                                      \
    FLAG_IDLE("ref_model_sync_steps", "for sync_ref_model")

#define TRL_FLAGS_ORPO                                                                             \
    TRL_FLAGS,                                                                                     \
    TRL_NO_DROPOUT,                                                                                \
    FLAG_IDLE("padding_value", "batches have no padding"),                                         \
    FLAG_IDLE("label_pad_token_id", "batches have no padding"),                                    \
    FLAG_NOTE("generate_during_eval", "false",                                                     \
              "texts are shown before and after training: --samples"),                             \
    FLAG_ONLY("is_encoder_decoder", "false", "GPT-2 is a decoder")

// PPOConfig of TRL 1.12, the last release with PPO. An update has --batch_size completions here, in TRL
// per_device_train_batch_size times gradient_accumulation_steps.
#define TRL_FLAGS_PPO                                                                              \
    TRL_FLAGS_SHARED,                                                                              \
    FLAG_ALIAS("sft_model_path", "model", NULL),                                                   \
    FLAG_ALIAS("reward_model_path", "reward_model", NULL),                                         \
    FLAG_IDLE("num_sample_generations", "--sample_steps says when texts are shown"),               \
    FLAG_ONLY("gradient_accumulation_steps", "1", "an update has --batch_size completions, "       \
              "--per_device_train_batch_size in one pass"),                                        \
    FLAG_ONLY("num_train_epochs", "1", "--total_episodes says how long to train"),                 \
    FLAG_ONLY("max_steps", "-1", "--total_episodes says how long to train"),                       \
    FLAG_IDLE("eval_strategy", "texts are measured before and after training: --eval_prompts"),    \
    FLAG_IDLE("evaluation_strategy", "texts are measured before and after training"),              \
    FLAG_IDLE("eval_steps", "texts are measured before and after training"),                       \
    FLAG_IDLE("per_device_eval_batch_size", "speed alone"),                                        \
    FLAG_IDLE("local_rollout_forward_batch_size", "speed alone"),                                  \
    FLAG_ONLY("stop_token", "eos", "a completion ends with the end-of-text token"),                \
    FLAG_ONLY("stop_token_id", "", "a completion ends with the end-of-text token"),                \
    FLAG_ONLY("world_size", "1", TRL_ONE_PROCESS),                                                 \
    FLAG_IDLE("num_total_batches", "TRL computes it"),                                             \
    FLAG_IDLE("micro_batch_size", "TRL computes it"),                                              \
    FLAG_IDLE("local_batch_size", "TRL computes it"),                                              \
    FLAG_IDLE("local_mini_batch_size", "TRL computes it"),                                         \
    FLAG_IDLE("mini_batch_size", "TRL computes it"),                                               \
    FLAG_ONLY("model_adapter_name", "", TRL_NO_ADAPTERS),                                          \
    FLAG_ONLY("ref_adapter_name", "", TRL_NO_ADAPTERS),                                            \
    FLAG_IDLE("ds3_gather_for_generation", "there is one process"),                                \
    FLAG_ALIAS("per_gpu_train_batch_size", "per_device_train_batch_size", NULL),                   \
    FLAG_IDLE("per_gpu_eval_batch_size", "speed alone"),                                           \
    FLAG_ONLY("train_sampling_strategy", "random", "prompts come in random order"),                \
    FLAG_ONLY("group_by_length", "false", "prompts come in random order"),                         \
    FLAG_IDLE("length_column_name", "for group_by_length")

#define TRL_FLAGS_SPIN TRL_FLAGS, TRL_NO_DROPOUT

// clang-format on

#endif

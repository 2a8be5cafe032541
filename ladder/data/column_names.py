"""Tables of column names and message keys that published data sets and trainers use, grouped by meaning.

All names are in snake case (ladder.data.columns.plain). docs/data-formats.md explains them to users.
"""

CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")
"""Columns that hold a list of messages, in order of preference."""
QUESTIONS = ("prompt", "instruction", "question", "query", "problem")
ANSWERS = ("completion", "output", "response", "answer", "solution", "reply")
SECOND_INPUTS = ("input", "context")
"""Columns whose text follows the question."""
SYSTEMS = ("system", "system_prompt", "system_message", "system_instruction", "sys_prompt")
TEXTS = (*CONVERSATIONS, *QUESTIONS, *ANSWERS, *SECOND_INPUTS, *SYSTEMS, "chosen", "rejected", "instances", "text")
"""Columns that the formats read."""

LABELS = {
    *("label", "kto_tag", "kto_label", "desirable", "desired", "is_desirable", "is_desired", "desirability"),
    *("good", "is_good", "preferred", "is_preferred", "is_chosen", "thumb", "thumbs", "thumbs_up", "thumb_up"),
    *("accepted", "is_accepted", "acceptable", "is_acceptable", "liked", "upvoted", "correct", "is_correct", "passed"),
}
"""Columns with a binary label of the answer, in any encoding that ladder.data.columns.binary reads; true is good."""
BAD_LABELS = {"bad", "is_bad", "undesirable", "undesired", "is_undesirable", "thumbs_down", "thumb_down", "disliked"}
"""Labels for which true marks a bad answer."""
WORD_LABELS = {
    *("rating", "feedback", "user_feedback", "human_feedback", "vote", "reaction", "verdict", "preference", "quality"),
    *("sentiment", "reward", "score", "human_rating", "user_rating", "evaluation", "judgement", "judgment"),
    *("correctness", "outcome", "annotation"),
}
"""Columns that are labels if their value is a boolean or one of two words. A number is a score, not a label."""
GOOD_WORDS = {
    *("good", "true", "yes", "desirable", "desired", "positive", "thumbs up", "thumb up", "thumbsup", "up", "👍"),
    *("like", "liked", "upvote", "upvoted", "chosen", "accepted", "accept", "preferred", "correct", "pass", "passed"),
}
BAD_WORDS = {
    *("bad", "false", "no", "undesirable", "undesired", "negative", "thumbs down", "thumb down", "thumbsdown", "down"),
    *("👎", "dislike", "disliked", "downvote", "downvoted", "rejected", "reject", "dispreferred", "incorrect", "wrong"),
    *("fail", "failed"),
}

TRAINED = {
    *(
        "train",
        "trainable",
        "training",
        "trained",
        "is_trained",
        "is_trainable",
        "train_on_turn",
        "train_on",
        "do_train",
    ),
    *("train_on_message", "train_turn", "to_train", "learn", "loss", "has_loss", "use_loss", "compute_loss"),
    *("calculate_loss", "requires_loss", "include_in_loss", "in_loss", "loss_mask", "train_mask", "weight"),
    *("loss_weight", "training_weight", "train_weight", "loss_scale", "supervised", "supervise"),
}
"""Flags of a message or row that is trained on if the flag is true or 1."""
WEIGHTS = {"weight", "loss_weight", "training_weight", "train_weight", "loss_scale"}
"""Flags that are numeric weights.

Some tools write them beside every message, so 1 beside a user's message is ignored.
"""
MASKED = {
    *(
        "mask",
        "masked",
        "is_masked",
        "mask_loss",
        "ignore",
        "ignored",
        "ignore_loss",
        "skip",
        "skip_loss",
        "skip_train",
    ),
    *("skip_training", "no_loss", "no_train", "exclude", "excluded", "exclude_from_loss", "context_only", "untrained"),
}
"""Flags of a message or row that is not trained on if the flag is true."""
ENDINGS = {"eot", "train_on_eot", "train_eot", "end_turn", "end_of_turn", "eos", "add_eos", "train_on_eos"}
"""Flags of a message whose end token is not written, or not trained on, if the flag is false."""
PREFIXES = {"prefix", "partial", "prefill", "is_prefill", "continue_final_message", "ipython"}
"""Flags of an incomplete message that is continued elsewhere, if the flag is true."""

REASONING = {
    *("reasoning_content", "reasoning", "reasoning_text", "reasoning_trace", "thinking", "thinking_content"),
    *("thinking_trace", "thought", "thoughts", "think", "chain_of_thought", "cot"),
}
"""Columns and message keys that hold the reasoning of an answer."""
MESSAGE_REASONING = REASONING | {"analysis", "rationale", "scratchpad"}
"""Message keys that hold reasoning.

As columns of a row, the additional names may be a review of it and are not read.
"""

MEDIA = {
    *("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "pixel", "pixels", "frame", "frames"),
    *("video", "videos", "audio", "audios", "speech", "sound", "sounds", "wav", "waveform", "voice", "media", "file"),
    *("files", "attachment", "attachments", "document", "documents", "pdf", "pdfs", "multimodal", "mm", "screenshot"),
    *("screenshots", "bbox", "bboxes", "objects"),
}
"""Words in a column's name that indicate images, video, audio or files."""
TOOLS = {"tool", "tools", "function", "functions", "plugin", "plugins", "api", "apis", "mcp"}
"""Words in a column's name that indicate tools and tool calls."""
HARMLESS_TOOLS = {"tool_call_id", "parallel_tool_calls"}
HARMLESS_MEDIA = {"file_name", "filename", "file_path", "media_type", "document_id"}
"""Names that are harmless despite a media word, unless the value names an image, audio or video file."""

HARMLESS_LAST = {
    *("id", "ids", "idx", "index", "uuid", "guid", "uid", "hash", "md5", "sha", "sha1", "sha256", "url", "urls", "uri"),
    *("link", "links", "source", "sources", "origin", "dataset", "datasets", "corpus", "split", "subset", "domain"),
    *("category", "categories", "topic", "topics", "tag", "tags", "language", "languages", "lang", "locale", "license"),
    *("licence", "date", "time", "timestamp", "at", "version", "revision", "model", "models", "author", "annotator"),
    *("worker", "country", "type", "name", "score", "scores", "rating", "ratings", "reward", "rewards", "count"),
    *("counts", "length", "lengths", "len", "num", "perplexity", "ppl", "similarity", "difficulty", "quality"),
    *("level", "toxicity", "usage", "tokens"),
}
"""Last words of a column name that marks provenance or a measurement: `chosen_model`, `created_at`."""
HARMLESS_FIRST = {"num", "n", "count", "score", "rating", "metadata", "len", "length", "unnamed", "index"}
HARMLESS = {
    *("title", "views", "row", "line", "path", "key", "task", "ability", "state", "user", "correctness"),
    *("subject", "skill", "format", "style", "intent", "persona", "seed", "metadata", "meta", "extra", "extra_info"),
    *(
        "langdetect",
        "info",
        "provenance",
        "timestamp",
        "created",
        "updated",
        "modified",
        "temperature",
        "top_p",
        "max_tokens",
    ),
    *("finish_reason", "stop_reason", "object", "logprobs", "annotations", "toxic", "redacted", "header", "hashed_ip"),
    *(
        "openai_moderation",
        "moderation",
        "detoxify",
        "detoxify_moderation",
        "emojis",
        "labels",
        "turn",
        "turn_identifier",
    ),
    *("is_classification", "helpfulness", "honesty", "truthfulness", "instruction_following", "harmlessness"),
    *("coherence", "complexity", "verbosity", "overall_score", "critique", "parent_id", "message_id", "tree_state"),
    *("review_result", "deleted", "synthetic", "rank", "replies", "role", "custom_instruction", "agreed", "avatar_url"),
    *("skip_prompt_formatting", "grade", "cache_control", "sample"),
}
"""Full names of columns that do not affect training."""
NOTHING = {"", "[]", "{}", "null", "none", "nan"}
"""Texts that represent a missing value, for example in CSV files."""

BEGIN TRANSACTION;
CREATE TABLE epochs (
	id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	score DOUBLE, 
	metrics JSON NOT NULL, 
	seconds DOUBLE NOT NULL, 
	peak_memory BIGINT NOT NULL, 
	CONSTRAINT pk_epochs PRIMARY KEY (id), 
	CONSTRAINT fk_epochs_trial_id_trials FOREIGN KEY(trial_id) REFERENCES trials (id) ON DELETE CASCADE, 
	CONSTRAINT uq_epochs_trial_id_epoch UNIQUE (trial_id, epoch)
);
INSERT INTO "epochs" VALUES(1,1,1,0.5,'{"accuracy": 0.5, "loss": 1.0}',0.5,10);
INSERT INTO "epochs" VALUES(2,1,2,0.75,'{"accuracy": 0.75, "loss": 0.5}',0.5,10);
CREATE TABLE luthier_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT luthier_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "luthier_version" VALUES('0003');
CREATE TABLE runs (
	id VARCHAR(36) NOT NULL, 
	name TEXT NOT NULL, 
	created DATETIME NOT NULL, 
	updated DATETIME NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	settings JSON NOT NULL, 
	seed BIGINT NOT NULL, 
	budget DOUBLE, 
	spent DOUBLE NOT NULL, 
	task TEXT NOT NULL, 
	data_fingerprint TEXT NOT NULL, 
	folder TEXT NOT NULL, 
	best_trial INTEGER, 
	strategy_state JSON, 
	versions JSON NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES('b4c1be8b-4b70-4159-8d52-99fb8206f24c','kept','2026-11-25 18:57:58.129363','2026-11-25 18:57:58.280603','stopped','{"data": "x.csv"}',0,60.0,0.0,'text-classification','','',0,'{"trials": 2}','{}');
CREATE TABLE trials (
	id INTEGER NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	number INTEGER NOT NULL, 
	recipe JSON NOT NULL, 
	seed BIGINT NOT NULL, 
	until INTEGER NOT NULL, 
	resumed_from INTEGER NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	score DOUBLE, 
	loss DOUBLE, 
	best_epoch INTEGER, 
	epochs INTEGER NOT NULL, 
	seconds DOUBLE NOT NULL, 
	peak_memory BIGINT NOT NULL, 
	trainable_parameters BIGINT, 
	total_parameters BIGINT, 
	reason TEXT NOT NULL, 
	started DATETIME NOT NULL, 
	ended DATETIME, 
	attempts INTEGER NOT NULL, parent INTEGER, parent_epoch INTEGER, repeats INTEGER, 
	CONSTRAINT pk_trials PRIMARY KEY (id), 
	CONSTRAINT fk_trials_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE, 
	CONSTRAINT uq_trials_run_id_number UNIQUE (run_id, number)
);
INSERT INTO "trials" VALUES(1,'b4c1be8b-4b70-4159-8d52-99fb8206f24c',0,'{"model": "m", "init": "pretrained", "adaptation": "full", "last_k": 2, "lora_rank": 8, "lora_alpha": 16.0, "lora_dropout": 0.0, "lora_targets": "all", "head": "native", "pooling": "native", "dropout": null, "head_dropout": 0.1, "weight_decay": 0.01, "l1": 0.0, "l2_start": 0.0, "label_smoothing": 0.0, "class_weights": "none", "optimizer": "adamw", "learning_rate": 0.0001, "head_lr_ratio": 1.0, "layer_decay": 1.0, "momentum": 0.9, "nesterov": true, "schedule": "linear", "warmup": 0.1, "batch_size": 32, "accumulate": 1, "epochs": 4, "patience": null, "clip_norm": 1.0, "precision": "auto", "gradient_checkpointing": false, "max_length": null, "image_size": null, "augmentation": "none"}',1,2,0,'completed',0.75,0.5,2,2,1.0,10,5,9,'','2026-11-25 18:57:58.160435','2026-11-25 18:57:58.232167',1,NULL,NULL,NULL);
INSERT INTO "trials" VALUES(2,'b4c1be8b-4b70-4159-8d52-99fb8206f24c',1,'{"model": "m", "init": "pretrained", "adaptation": "full", "last_k": 2, "lora_rank": 8, "lora_alpha": 16.0, "lora_dropout": 0.0, "lora_targets": "all", "head": "native", "pooling": "native", "dropout": null, "head_dropout": 0.1, "weight_decay": 0.01, "l1": 0.0, "l2_start": 0.0, "label_smoothing": 0.0, "class_weights": "none", "optimizer": "adamw", "learning_rate": 0.0001, "head_lr_ratio": 1.0, "layer_decay": 1.0, "momentum": 0.9, "nesterov": true, "schedule": "linear", "warmup": 0.1, "batch_size": 32, "accumulate": 1, "epochs": 4, "patience": null, "clip_norm": 1.0, "precision": "auto", "gradient_checkpointing": false, "max_length": null, "image_size": null, "augmentation": "none"}',2,2,0,'failed',NULL,NULL,NULL,0,0.0,0,NULL,NULL,'out of memory','2026-11-25 18:57:58.244028','2026-11-25 18:57:58.256033',1,0,2,NULL);
CREATE INDEX ix_runs_created ON runs (created);
COMMIT;

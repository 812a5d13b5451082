BEGIN TRANSACTION;
CREATE TABLE luthier_monitor_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT luthier_monitor_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "luthier_monitor_version" VALUES('0001');
CREATE TABLE monitor_alarms (
	number INTEGER NOT NULL, 
	model VARCHAR(200) NOT NULL, 
	version VARCHAR(200) NOT NULL, 
	kind VARCHAR(40) NOT NULL, 
	began DOUBLE NOT NULL, 
	ended DOUBLE, 
	said TEXT NOT NULL, 
	told VARCHAR(8) NOT NULL, 
	CONSTRAINT pk_monitor_alarms PRIMARY KEY (number)
);
CREATE TABLE monitor_labels (
	model VARCHAR(200) NOT NULL, 
	id VARCHAR(300) NOT NULL, 
	label TEXT NOT NULL, 
	time DOUBLE NOT NULL, 
	CONSTRAINT pk_monitor_labels PRIMARY KEY (model, id)
);
INSERT INTO "monitor_labels" VALUES('kept','r0','"cat"',1700000000.0);
CREATE TABLE monitor_looks (
	number INTEGER NOT NULL, 
	model VARCHAR(200) NOT NULL, 
	version VARCHAR(200) NOT NULL, 
	time DOUBLE NOT NULL, 
	seen BIGINT NOT NULL, 
	said TEXT NOT NULL, 
	CONSTRAINT pk_monitor_looks PRIMARY KEY (number)
);
CREATE TABLE monitor_observations (
	number INTEGER NOT NULL, 
	model VARCHAR(200) NOT NULL, 
	id VARCHAR(300) NOT NULL, 
	time DOUBLE NOT NULL, 
	version VARCHAR(200) NOT NULL, 
	predicted TEXT, 
	confidence DOUBLE, 
	output BLOB NOT NULL, 
	features BLOB, 
	statistics TEXT NOT NULL, 
	input BLOB, 
	CONSTRAINT pk_monitor_observations PRIMARY KEY (number)
);
INSERT INTO "monitor_observations" VALUES(1,'kept','r0',1700000000.0,'1','dog',6.36729034555706729925e-01,X'0201030000006CBF803E7F4687BEBDF2A33F',X'01010800000006303AB02039B72E49B8C935373D943B','{"length": 5.0, "unknown": 0.0}',NULL);
INSERT INTO "monitor_observations" VALUES(2,'kept','r1',1700000001.0,'1','dog',5.66678465868776792824e-01,X'020103000000DFD5563EA12189BFFD22393F',X'010108000000A1B910BDFCB84A29A6C000B3FCBCDCB9','{"length": 6.0, "unknown": 0.0}',NULL);
CREATE UNIQUE INDEX uq_monitor_observations_model_id ON monitor_observations (model, id);
CREATE INDEX ix_monitor_observations_model_number ON monitor_observations (model, number);
CREATE INDEX ix_monitor_observations_model_time ON monitor_observations (model, time);
CREATE INDEX ix_monitor_looks_model_version ON monitor_looks (model, version, number);
CREATE INDEX ix_monitor_alarms_model ON monitor_alarms (model);
COMMIT;

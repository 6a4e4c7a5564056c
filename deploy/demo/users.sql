CREATE TABLE users (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO users VALUES ('Tom', '630'), ('Jack', '589'), ('Sam', '567'), ('Ann', '712');

-- Run by the PostgreSQL image when its volume is empty: one database for each server that keeps records.
CREATE DATABASE prefect;
CREATE DATABASE mlflow;

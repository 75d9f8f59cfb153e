-- Run once by the container of PostgreSQL in docker-compose.yml, as its superuser, whom no process of Sluice uses. The
-- owner of the tables creates the logins of the roles; see `sluice migrate`.
\getenv password SLUICE_POSTGRES_PASSWORD_OWNER
CREATE ROLE sluice_owner LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE sluice OWNER sluice_owner;

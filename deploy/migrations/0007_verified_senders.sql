-- True: e-mail from a domain that is not verified is refused.
ALTER TABLE projects ADD COLUMN verified_senders_only boolean NOT NULL DEFAULT false;

-- The caches know what the checks of such a project's domains have found.
CREATE TRIGGER notify_config_change AFTER INSERT OR UPDATE OR DELETE ON domains
   FOR EACH ROW EXECUTE FUNCTION notify_config_change();

-- The key by which Token Binding holds a session, for those who ask about a session without its
-- cookie: tokens, and the page of the person. Sessions of the previous release get it the next time
-- that they are used.
alter table browser_sessions add column tbh text;

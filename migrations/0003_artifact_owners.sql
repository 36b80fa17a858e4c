-- What a code or refresh token depends on, so that one statement finds it all. payload cannot be
-- asked: every json operator refuses a payload with U+0000 anywhere in it. Rows of the previous
-- release have null here, and what they depend on is found by statements of their own.
alter table artifacts
  add column account_id  text,
  -- The uid of the session that the artifact ends with; null when it outlives its session.
  add column session_uid text;

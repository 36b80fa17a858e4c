-- Whether the model of a passkey's authenticator was certified by a root of the operator when it was
-- added. Releases before this one leave it false: their passkeys count where no models are listed.
alter table passkeys add column attested boolean not null default false;

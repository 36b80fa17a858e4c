----------------------------- MODULE Redemption -----------------------------
(* One authorization: its code, or the code of a device, and the chain of refresh tokens that follows.
   Nodes serve requests by statements that interleave; answers are lost, nodes crash, time passes, and a
   thief has a copy of every credential and request. Credential 0 is the code, k+1 the successor of k. The
   client may name a new key in a refresh by its old one: both are good then, until the new one is used. *)
EXTENDS Naturals, FiniteSets, TLC

CONSTANTS
  Nodes, Tokens, Proofs, LastMoment,   \* the size of the model
  Life, Grace,                         \* of a credential, and for a repeated refresh
  Bound,                               \* FALSE: a client of bearer tokens, whose thief shows what it shows
  Signed,                              \* whether the client authenticates by assertions
  Overlap,                             \* of two keys; 0: the client has one key
  \* The guards. Each is TRUE; `npm run model -- --broken` makes one FALSE at a time.
  CheckKey, CheckExpiry, CheckEnded, CountRows, RecordProof, WriteWithUse, EndOnReuse, LimitGrace,
  WaitForCommit, SameSuccessor, RecordAssertion, CheckNext, LimitOverlap, StoreNext

VARIABLES
  now, origin, isDecided,
  rows,      \* the table artifacts: for each credential its state, and when it was used and expires
  ended,     \* the row EndedFamily
  marks,     \* the table replay_marks
  proofs,    \* how many proofs were made; each is a number
  sent,      \* requests that a thief can send again
  nodes,     \* what each node is doing
  newest,    \* the last credential that the client has received
  \* For the invariants alone:
  granted,   \* what answers with tokens are compared with later
  wrong,     \* the claims that an answer or an end has broken
  promise    \* until when the client takes its next key to be good

vars == <<now, origin, isDecided, rows, ended, marks, proofs, sent, nodes, newest, granted, wrong, promise>>

Alike == Permutations(Nodes)
Credentials == 0 .. Tokens
None == [state |-> "none", usedAt |-> 0, expiresAt |-> 0, key |-> "old", until |-> 0]
Fresh == [None EXCEPT !.state = "fresh", !.expiresAt = now + Life]
Idle == [phase |-> "idle"]

Init ==
  /\ now = 0
  /\ origin \in {"code", "device"}
  /\ isDecided = (origin # "device")
  (* The last credential that the client has as the model begins: a code, or a refresh token. *)
  /\ newest \in IF origin = "code" THEN {0, 1} ELSE {0}
  /\ rows = [c \in Credentials |->
       IF c = newest THEN Fresh ELSE IF c < newest THEN [Fresh EXCEPT !.state = "used"] ELSE None]
  /\ ended = FALSE
  /\ marks = {} /\ proofs = 0 /\ sent = {}
  /\ nodes = [n \in Nodes |-> Idle]
  /\ granted = {} /\ wrong = {} /\ promise = 0

-----------------------------------------------------------------------------
(* What a statement sees. *)

IsCurrent(c) == CheckExpiry => rows[c].expiresAt > now
IsLive(c) == rows[c].state # "none" /\ IsCurrent(c) /\ (CheckEnded => ~ended)
IsOfClient(request) == request.key # "thief"
(* The client has the key, or the verifier of the code. A thief of bearer tokens needs neither. *)
HasRightKey(request) ==
  LET row == rows[request.cred]
  IN request.key = row.key \/ (request.key = "new" /\ row.until > request.began)
ShowsKey(request) ==
  LET row == rows[request.cred]
      isNext == /\ row.until # 0
                /\ CheckNext => request.key = "new"
                /\ LimitOverlap => row.until > request.began
  IN request.key = row.key \/ isNext \/ ~CheckKey \/ (~Bound /\ request.cred # 0)
(* What a request shows that is good once. *)
OneTimeValues(request) ==
  (IF Bound THEN {<<"proof", request.proof>>} ELSE {}) \cup
  (IF Signed THEN {<<"assertion", request.assertion>>} ELSE {})
IsRecorded(value) == IF value[1] = "proof" THEN RecordProof ELSE RecordAssertion
IsReplayed(request) == \E value \in OneTimeValues(request) : IsRecorded(value) /\ value \in marks
HasGrace(c) == c > 0 /\ Bound
IsInTime(request) ==
  HasGrace(request.cred) /\ (LimitGrace => rows[request.cred].usedAt + Grace > request.began)

Become(n, request) == nodes' = [nodes EXCEPT ![n] = request]
Step(n, phase) == Become(n, [nodes[n] EXCEPT !.phase = phase])

-----------------------------------------------------------------------------
(* Requests. The client uses the newest credential that it has, or an older one by mistake. *)

Receive(n, request) ==
  /\ nodes[n] = Idle
  /\ Become(n, [phase |-> "received", cred |-> request.cred, key |-> request.key,
                proof |-> request.proof, assertion |-> request.assertion, names |-> request.names,
                began |-> now, afterEnd |-> ended, isRight |-> FALSE])

(* A thief makes proofs by a key of its own, and has no assertions but those of the client. *)
Assertions(key) ==
  IF ~Signed THEN {0} ELSE IF key = "thief" THEN {one.assertion : one \in sent} ELSE {proofs + 1}

Send(n, key) ==
  /\ proofs < Proofs
  /\ key = "new" => \E c \in Credentials : rows[c].until # 0 \/ rows[c].key = "new"
  /\ \E c \in Credentials, assertion \in Assertions(key), names \in BOOLEAN :
       LET request == [cred |-> c, key |-> key, proof |-> IF Bound THEN proofs + 1 ELSE 0,
                       assertion |-> assertion, names |-> names]
       IN /\ IF IsOfClient(request) THEN c <= newest ELSE rows[c].state # "none"
          /\ names => Overlap > 0 /\ c > 0 /\ key = "old"
          /\ Receive(n, request)
          /\ sent' = sent \cup {request}
  /\ proofs' = proofs + 1
  /\ UNCHANGED <<now, origin, isDecided, rows, ended, marks, newest, granted, wrong, promise>>

Repeat(n) ==
  /\ \E request \in sent : Receive(n, request)
  /\ UNCHANGED <<now, origin, isDecided, rows, ended, marks, proofs, sent, newest, granted, wrong, promise>>

(* grant.find and grant.decide: one statement, then a function of what it found. *)
Find(n) ==
  LET request == nodes[n]
      c == request.cred
  IN /\ request.phase = "received"
     /\ IF ~IsLive(c) \/ ~ShowsKey(request) \/ (c = 0 /\ ~isDecided) THEN Become(n, Idle)
        ELSE Become(n, [request EXCEPT !.isRight = HasRightKey(request), !.phase =
               IF rows[c].state = "used" /\ ~IsInTime(request) THEN "reuse" ELSE "found"])
     /\ UNCHANGED <<now, origin, isDecided, rows, ended, marks, proofs, sent, newest, granted, wrong, promise>>

(* artifact-commit: the proof is recorded, the credential used, its successor written: one statement. *)
Commit(n) ==
  LET request == nodes[n]
      c == request.cred
      isFirst == rows[c].state = "fresh" /\ IsCurrent(c)
      used == [rows EXCEPT ![c].state = "used", ![c].usedAt = now]
      isNew == request.key = "new" /\ rows[c].key = "old"
      until == IF request.names THEN IF StoreNext THEN request.began + Overlap ELSE 0
               ELSE IF isNew THEN 0 ELSE rows[c].until
      following == IF rows[c + 1].state # "none" THEN rows[c + 1]
                   ELSE [Fresh EXCEPT !.until = until,
                                      !.key = IF isNew THEN "new" ELSE rows[c].key]
  IN /\ request.phase = "found" /\ c < Tokens
     /\ marks' = marks \cup OneTimeValues(request)
     /\ IF IsReplayed(request) THEN Become(n, Idle) /\ UNCHANGED rows
        ELSE IF isFirst \/ ~CountRows THEN
          IF WriteWithUse
          THEN Step(n, "done") /\ rows' = [used EXCEPT ![c + 1] = following]
          ELSE Step(n, "used") /\ rows' = used
        ELSE Step(n, "late") /\ UNCHANGED rows
     /\ UNCHANGED <<now, origin, isDecided, ended, proofs, sent, newest, granted, wrong, promise>>

(* Only without WriteWithUse: a second statement writes the successor. *)
Write(n) ==
  /\ nodes[n].phase = "used"
  /\ rows' = [rows EXCEPT ![nodes[n].cred + 1] = Fresh]
  /\ Step(n, "done")
  /\ UNCHANGED <<now, origin, isDecided, ended, marks, proofs, sent, newest, granted, wrong, promise>>

(* grant.mayRepeat and grant.lose: another request was first. *)
Lose(n) ==
  LET request == nodes[n]
      c == request.cred
      isRepeated == /\ HasGrace(c) /\ IsLive(c + 1) /\ rows[c + 1].state = "fresh"
                    /\ request.key = "new" <=> rows[c + 1].key = "new"
      isOfOneClient == Bound /\ (c > 0 \/ origin = "device")
  IN /\ request.phase = "late"
     /\ IF isRepeated THEN Step(n, "repeated")
        ELSE IF isOfOneClient THEN Become(n, Idle)
        ELSE Step(n, "end")
     /\ UNCHANGED <<now, origin, isDecided, rows, ended, marks, proofs, sent, newest, granted, wrong, promise>>

(* A reuse counts when its proof and assertion were not seen before. *)
Record(n) ==
  /\ nodes[n].phase = "reuse"
  /\ marks' = marks \cup OneTimeValues(nodes[n])
  /\ IF IsReplayed(nodes[n]) THEN Become(n, Idle) ELSE Step(n, "end")
  /\ UNCHANGED <<now, origin, isDecided, rows, ended, proofs, sent, newest, granted, wrong, promise>>

End(n) ==
  /\ nodes[n].phase = "end"
  /\ ended' = (ended \/ EndOnReuse)
  /\ wrong' = wrong \cup (IF ended' THEN {} ELSE {"ReuseEndsTheFamily"}) \cup
                (IF Bound /\ nodes[n].key = "thief" THEN {"OnlyTheClientEndsIt"} ELSE {})
  /\ Become(n, Idle)
  /\ UNCHANGED <<now, origin, isDecided, rows, marks, proofs, sent, newest, granted, promise>>

(* The claims that an answer breaks, by what was answered before it. *)
Breaks(request, grant) ==
  LET isOwn == (IsOfClient(request) /\ request.isRight) \/ (~Bound /\ grant.cred # 0)
      IsSecond(other) ==
        other.cred = grant.cred /\ ~(/\ HasGrace(grant.cred) /\ other.successor = grant.successor
                                    /\ other.isInGrace /\ grant.isInGrace)
      IsReplay(other) == \/ Bound /\ other.proof = grant.proof
                         \/ Signed /\ other.assertion = grant.assertion
  IN (IF \E other \in granted : IsSecond(other) THEN {"RedeemedOnce"} ELSE {}) \cup
     (IF \E other \in granted : IsReplay(other) THEN {"ProofGoodOnce"} ELSE {}) \cup
     (IF isOwn THEN {} ELSE {"OnlyItsOwnKey"}) \cup
     (IF request.began < rows[grant.cred].expiresAt THEN {} ELSE {"NothingAfterItsEnd"}) \cup
     (IF request.afterEnd THEN {"RevocationIsFinal"} ELSE {})

(* The answer reaches whom it is for, or is lost. *)
Answer(n) ==
  LET request == nodes[n]
      c == request.cred
      isEarly == request.phase = "found" /\ ~WaitForCommit /\ c < Tokens
      successor == IF request.phase = "repeated" /\ ~SameSuccessor THEN c + 100 ELSE c + 1
  IN /\ request.phase \in {"done", "repeated"} \/ isEarly
     /\ LET grant == [cred |-> c, successor |-> successor, proof |-> request.proof,
                      assertion |-> request.assertion,
                      isInGrace |-> request.began < rows[c].usedAt + Grace]
        IN /\ granted' = granted \cup {grant}
           /\ wrong' = wrong \cup Breaks(request, grant)
     /\ newest' \in {newest} \cup
          (IF IsOfClient(request) /\ c + 1 > newest THEN {c + 1} ELSE {})
     /\ promise' = IF newest' = newest THEN promise
                   ELSE IF request.key = "new" THEN 0
                   ELSE IF request.names /\ request.phase = "done"
                     THEN request.began + Overlap
                   ELSE promise
     /\ Become(n, Idle)
     /\ UNCHANGED <<now, origin, isDecided, rows, ended, marks, proofs, sent>>

-----------------------------------------------------------------------------
(* What else happens. *)

Crash(n) ==
  /\ nodes[n] # Idle
  /\ Become(n, Idle)
  /\ UNCHANGED <<now, origin, isDecided, rows, ended, marks, proofs, sent, newest, granted, wrong, promise>>

Decide ==
  /\ ~isDecided /\ isDecided' = TRUE
  (* Of bearer tokens nothing more depends on it. *)
  /\ origin' = IF Bound THEN origin ELSE "code"
  /\ UNCHANGED <<now, rows, ended, marks, proofs, sent, nodes, newest, granted, wrong, promise>>

Revoke ==
  /\ newest > 0 /\ ~ended /\ ended' = TRUE
  /\ UNCHANGED <<now, origin, isDecided, rows, marks, proofs, sent, nodes, newest, granted, wrong, promise>>

(* A request is over before much time passes: a statement is given up after 20 seconds. *)
Pass ==
  /\ now < LastMoment /\ now' = now + 1
  /\ promise' = IF promise > now' THEN promise ELSE 0
  /\ \A n \in Nodes : IF nodes[n] = Idle THEN TRUE ELSE nodes[n].began = now
  /\ UNCHANGED <<origin, isDecided, rows, ended, marks, proofs, sent, nodes, newest, granted, wrong>>

Next ==
  \/ \E n \in Nodes :
       \/ \E key \in {"old", "new", "thief"} : Send(n, key)
       \/ Repeat(n) \/ Find(n) \/ Commit(n) \/ Write(n) \/ Lose(n) \/ Record(n) \/ End(n)
       \/ Answer(n) \/ Crash(n)
  \/ Decide \/ Revoke \/ Pass

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* The claims of docs/assurance.md. *)

RedeemedOnce == "RedeemedOnce" \notin wrong
ProofGoodOnce == "ProofGoodOnce" \notin wrong
OnlyItsOwnKey == "OnlyItsOwnKey" \notin wrong
NothingAfterItsEnd == "NothingAfterItsEnd" \notin wrong
RevocationIsFinal == "RevocationIsFinal" \notin wrong
ReuseEndsTheFamily == "ReuseEndsTheFamily" \notin wrong
OnlyTheClientEndsIt == "OnlyTheClientEndsIt" \notin wrong

NamedKeyIsGood ==
  (~ended /\ now < promise /\ rows[newest].state = "fresh") => rows[newest].until >= promise

AnsweredGrantIsNeverLost ==
  LET row == rows[newest] IN
    (~ended /\ newest < Tokens /\ (newest = 0 \/ row.state # "none" => now < row.expiresAt)) =>
      \/ row.state = "fresh"
      \/ row.state = "used" /\ (now >= row.usedAt + Grace \/ rows[newest + 1].state # "none")
=============================================================================

-- Asks the gate about a request, and adds what it answers. HAProxy 2.5 or newer, with Lua.

local address = os.getenv("GATE_UPSTREAM")
local added = {
  "holdfast-identity", "signature", "signature-input", "content-digest", "cookie",
  -- For mode plain.
  "x-holdfast-issuer", "x-holdfast-subject", "x-holdfast-client", "x-holdfast-scope",
  "x-holdfast-name", "x-holdfast-email", "x-holdfast-groups", "x-holdfast-methods",
}
-- Of this connection, or of a body that the gate does not get.
local own = { "connection", "content-length", "transfer-encoding", "expect", "upgrade", "te" }

-- Of a refusal: HAProxy writes the length itself.
local hidden = { "connection", "content-length", "transfer-encoding", "keep-alive", "date" }

local function refuse(txn, status, headers, body)
  local reply = txn:reply({ status = status, body = body })
  for _, name in ipairs(hidden) do
    headers[name] = nil
  end
  for name, values in pairs(headers) do
    for _, value in pairs(values) do
      reply:add_header(name, value)
    end
  end
  txn:done(reply)
end

core.register_action("holdfast_gate", { "http-req" }, function(txn)
  local headers = txn.http:req_get_headers()
  local asked = {}
  for name, values in pairs(headers) do
    asked[name] = {}
    for _, value in pairs(values) do
      table.insert(asked[name], value)
    end
  end
  for _, name in ipairs(own) do
    asked[name] = nil
  end
  asked["x-original-method"] = { txn.f:method() }
  asked["x-original-host"] = asked["host"]
  asked["x-original-uri"] = { txn.f:url() }
  asked["host"] = { "gate" }
  local certificate = txn:get_var("txn.certificate")
  if certificate then
    asked["client-cert"] = { ":" .. certificate .. ":" }
  end

  local answer = core.httpclient():get({
    url = "http://" .. address .. "/authorize",
    headers = asked,
    timeout = 5000,
  })
  if answer == nil or answer.status == nil or answer.status == 0 then
    return refuse(txn, 503, {}, "")
  end
  if answer.status ~= 200 then
    return refuse(txn, answer.status, answer.headers, answer.body or "")
  end
  -- What the answer has comes back, the cookies without the gate's own.
  txn.http:req_del_header("cookie")
  for _, name in ipairs(added) do
    for _, value in pairs(answer.headers[name] or {}) do
      txn.http:req_set_header(name, value)
    end
  end
end)

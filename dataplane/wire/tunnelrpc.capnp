@0xdb8274f9144abc7e;
# Our own schema of the tunnel's control messages. Ids, ordinals and types are facts of the protocol
# (tunnel-edge.md 5.4; rpc level 1 messages as in the Cap'n Proto RPC specification); names are ours where not on the wire.
# Parameters and results are plain structs: the call and return exchange is done in rpc.py, not by a Cap'n Proto runtime.

# ---- registration: interface 0xf71695ec7fe85497 --------------------------------------------------------------------

struct RegisterConnectionParams {       # method 0
  auth @0 :TunnelAuth;
  tunnelId @1 :Data;                    # 16 bytes
  connIndex @2 :UInt8;
  options @3 :ConnectionOptions;
}

struct RegisterConnectionResults {
  result @0 :ConnectionResponse;
}

struct UpdateLocalConfigurationParams { # method 2; method 1 (unregister) has none
  config @0 :Data;
}

struct EmptyResults {}

struct TunnelAuth @0x9496331ab9cd463f {
  accountTag @0 :Text;
  tunnelSecret @1 :Data;
}

struct ClientInfo @0x83ced0145b2f114b {
  clientId @0 :Data;                    # 16 bytes
  features @1 :List(Text);
  version @2 :Text;
  arch @3 :Text;
}

struct ConnectionOptions @0xb4bf9861fe035d04 {
  client @0 :ClientInfo;
  originLocalIp @1 :Data;
  replaceExisting @2 :Bool;
  compressionQuality @3 :UInt8;
  numPreviousAttempts @4 :UInt8;
}

struct ConnectionResponse @0xdbaa9d03d52b62dc {
  result :union {
    error @0 :ConnectionError;
    connectionDetails @1 :ConnectionDetails;
  }
}

struct ConnectionError @0xf5f383d2785edb86 {
  cause @0 :Text;
  retryAfter @1 :Int64;                 # nanoseconds
  shouldRetry @2 :Bool;
}

struct ConnectionDetails @0xb5f39f082b9ac18a {
  uuid @0 :Data;                        # exactly 16 bytes
  locationName @1 :Text;
  tunnelIsRemotelyManaged @2 :Bool;
}

# ---- the two-party RPC envelope ------------------------------------------------------------------------------------

struct Message {
  union {
    unimplemented @0 :Message;
    abort @1 :Exception;
    call @2 :Call;
    return @3 :Return;
    finish @4 :Finish;
    resolve @5 :AnyPointer;
    release @6 :Release;
    obsoleteSave @7 :AnyPointer;
    bootstrap @8 :Bootstrap;
    obsoleteDelete @9 :AnyPointer;
    provide @10 :AnyPointer;
    accept @11 :AnyPointer;
    join @12 :AnyPointer;
    disembargo @13 :AnyPointer;
  }
}

struct Bootstrap {
  questionId @0 :UInt32;
  deprecatedObjectId @1 :AnyPointer;
}

struct Call {
  questionId @0 :UInt32;
  target @1 :MessageTarget;
  interfaceId @2 :UInt64;
  methodId @3 :UInt16;
  params @4 :Payload;
  sendResultsTo :union {
    caller @5 :Void;
    yourself @6 :Void;
    thirdParty @7 :AnyPointer;
  }
  allowThirdPartyTailCall @8 :Bool = false;
}

struct Return {
  answerId @0 :UInt32;
  releaseParamCaps @1 :Bool = true;
  union {
    results @2 :Payload;
    exception @3 :Exception;
    canceled @4 :Void;
    resultsSentElsewhere @5 :Void;
    takeFromOtherQuestion @6 :UInt32;
    acceptFromThirdParty @7 :AnyPointer;
  }
}

struct Finish {
  questionId @0 :UInt32;
  releaseResultCaps @1 :Bool = true;
}

struct Release {
  id @0 :UInt32;
  referenceCount @1 :UInt32;
}

struct MessageTarget {
  union {
    importedCap @0 :UInt32;
    promisedAnswer @1 :PromisedAnswer;
  }
}

struct PromisedAnswer {
  questionId @0 :UInt32;
  transform @1 :List(Op);

  struct Op {
    union {
      noop @0 :Void;
      getPointerField @1 :UInt16;
    }
  }
}

struct Payload {
  content @0 :AnyPointer;
  capTable @1 :List(CapDescriptor);
}

struct CapDescriptor {
  union {
    none @0 :Void;
    senderHosted @1 :UInt32;
    senderPromise @2 :UInt32;
    receiverHosted @3 :UInt32;
    receiverAnswer @4 :PromisedAnswer;
    thirdPartyHosted @5 :AnyPointer;
  }
}

struct Exception {
  reason @0 :Text;
  obsoleteIsCallersFault @1 :Bool;
  obsoleteDurability @2 :UInt16;
  type @3 :Type;

  enum Type {
    failed @0;
    overloaded @1;
    disconnected @2;
    unimplemented @3;
  }
}
